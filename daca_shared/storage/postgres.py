"""One PostgreSQL database for an asyncio service."""

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from typing import Any, Self

import asyncpg
from pydantic import SecretStr

from daca_shared.domain import DomainError, TimedOut, Unavailable
from daca_shared.fair_limit import FairLimit
from daca_shared.observe.tracing import tracing
from daca_shared.storage.database import Row, Work, searched, storage_failed
from daca_shared.storage.postgres_url import connecting

log = logging.getLogger(__name__)

# TimeoutError is an OSError. A connection that was just closed may raise the last one.
_ERRORS = (asyncpg.PostgresError, OSError, asyncpg.InterfaceError, asyncpg.InternalClientError)
_ANSWERS = (asyncpg.PostgresError, DomainError)
# What a lost connection raises: asyncpg's own errors, some under PostgreSQL's classes, and the
# errors of a server that is starting or stopping.
_LOST = (
    OSError, asyncpg.InterfaceError, asyncpg.InternalClientError, asyncpg.PostgresConnectionError,
    asyncpg.AdminShutdownError, asyncpg.CrashShutdownError, asyncpg.CannotConnectNowError,
)  # fmt: skip
_READ_ONLY = (asyncpg.ReadOnlySQLTransactionError, asyncpg.TargetServerAttributeNotMatched)


class PostgresDatabase:
    """A `Database` on a pool of connections, which recovers after a restart of the server."""

    is_shared = True
    timeout_s = 5.0
    """The time limit of a transaction, including the wait for a connection. The server has the same
    limit for a statement and a silent client, so it never works, or holds locks, in vain."""
    search_timeout_s = 4.5
    idle_s = 10.0
    """After this time, unused connections are closed: a server has few, and others need them."""

    def __init__(self, pool: asyncpg.Pool, schema: str) -> None:
        self._pool, self._schema = pool, schema
        self._searches = FairLimit(2)

    @classmethod
    async def open(cls, url: SecretStr, schema: str, scripts: Sequence[str]) -> Self:
        """Connect, and run the `scripts` that `schema` has not had. Raises `Unavailable`."""
        pool = await asyncpg.create_pool(
            **connecting(url.get_secret_value(), cls.timeout_s), init=_prepare,
            # Nothing needs a reset: all that we set ends with its transaction.
            reset=lambda connection: asyncio.sleep(0), min_size=0, max_size=8,
            max_inactive_connection_lifetime=cls.idle_s,
        )  # fmt: skip
        try:
            async with pool.acquire() as db:
                await _migrate(db, schema, scripts)
        except (*_ERRORS, ValueError) as error:
            pool.terminate()
            problem = f"DATABASE_URL: PostgreSQL can't be used: {str(error) or 'no answer'}"
            raise Unavailable(problem) from error
        return cls(pool, schema)

    async def read(self, statement: str, *arguments: Any) -> list[Row]:
        async with self._connection("PostgreSQL read") as connection:
            return list(await connection.fetch(statement, *arguments))

    async def search(self, user_id: str, statement: str, *arguments: Any) -> list[Row]:
        async def search(left_s: float) -> list[Row]:
            async with self._connection("PostgreSQL search") as connection:
                try:  # with a time limit, asyncpg also ends the search on the server
                    return list(await connection.fetch(statement, *arguments, timeout=left_s))
                except (TimeoutError, asyncpg.QueryCanceledError):  # or its own limit was shorter
                    raise TimedOut("The search was ended") from None

        # Otherwise searches could take all connections.
        return await searched(self._searches.slot(user_id), search, self.search_timeout_s)

    async def write[T](self, work: Work[T]) -> T:
        async with self._connection("PostgreSQL write") as connection:
            transaction = connection.transaction(isolation="read_committed")
            await transaction.start()
            try:
                result = await work(connection)
            except _LOST:  # There is nothing to roll back; trying would hide the cause.
                raise
            except _ANSWERS:
                await transaction.rollback()
                raise
            await transaction.commit()
            return result

    async def purge(self) -> None:
        """Does nothing: other programs can't read the server's files."""

    async def check(self) -> None:
        # This also shows whether the tables are there.
        read_only = f"SELECT current_setting('transaction_read_only') FROM {self._schema}.version"  # noqa: S608
        try:
            async with self._connection("PostgreSQL check") as connection:
                if await connection.fetchval(read_only) == "on":
                    raise asyncpg.ReadOnlySQLTransactionError("it takes no writes")
        except Unavailable as error:
            problem = f"PostgreSQL can't be used: {_what_is_wrong(error.__cause__)}"
            raise Unavailable(problem) from error

    def time(self, stored: datetime) -> datetime:
        """Infinities come from asyncpg without a time zone, other times with one."""
        return stored.replace(tzinfo=UTC)

    async def close(self) -> None:
        # If that fails, or takes too long, the pool drops its connections.
        with suppress(*_ERRORS):
            async with asyncio.timeout(self.timeout_s):
                await self._pool.close()

    @asynccontextmanager
    async def _connection(self, span: str) -> AsyncIterator[asyncpg.Connection]:
        with tracing.span(span):
            try:
                async with asyncio.timeout(self.timeout_s):
                    connection = await self._acquired()
                    try:
                        yield connection
                    except BaseException as error:
                        # Unless the error is PostgreSQL's own answer, the connection is in an
                        # unknown state, and nobody should use it again or wait for it. A read-only
                        # one is dropped, too: its name may lead elsewhere after a failover.
                        if isinstance(error, _READ_ONLY) or not isinstance(error, _ANSWERS):
                            with suppress(asyncpg.InterfaceError):  # it is closed already
                                connection.terminate()
                        raise
                    finally:
                        await self._pool.release(connection)
            except _ERRORS as error:
                raise storage_failed("PostgreSQL", error) from error

    async def _acquired(self) -> asyncpg.Connection:
        """A connection: a new one or, if the server takes no more of them, one of ours that becomes
        free. PgBouncer has no code of its own for that, and says that a protocol is violated."""
        while True:
            try:
                return await self._pool.acquire()
            except (asyncpg.TooManyConnectionsError, asyncpg.ProtocolViolationError):
                if not self._pool.get_size():
                    raise
                await asyncio.sleep(0.05)


def _what_is_wrong(cause: BaseException | None) -> str:
    """Describes the error by its type, as its text is not for strangers."""
    if isinstance(cause, _READ_ONLY):
        return "it takes no writes"
    if isinstance(cause, TimeoutError):
        return "it doesn't answer in time"
    return "it can't be reached" if isinstance(cause, _LOST) else type(cause).__name__


async def _migrate(db: asyncpg.Connection, schema: str, scripts: Sequence[str]) -> None:
    """Run the scripts that the database has not had. Older programs can run beside newer ones,
    unless a script removes what they need and sets `oldest` to its number."""
    if (encoding := db.get_settings().server_encoding) not in ("UTF8", "SQL_ASCII"):
        raise ValueError(f"its database is in {encoding}; texts need UTF8")
    if await _version(db, schema, len(scripts)) >= len(scripts):
        return
    # Not the server's default: each statement must see what the one before has waited for.
    async with db.transaction(isolation="read_committed"):
        await db.execute("SET LOCAL statement_timeout = '300s'")
        await db.execute("SET LOCAL standard_conforming_strings = on")
        # If several processes start at once, only one of them migrates.
        await db.execute("SELECT pg_advisory_xact_lock(hashtext($1))", f"daca {schema}")
        version = await _version(db, schema, len(scripts))
        await db.execute("SET LOCAL lock_timeout = '2s'")  # for each table that is in use
        if not version:
            # Not `IF NOT EXISTS`, which requires the right to create one even if it exists.
            if not await db.fetch("SELECT FROM pg_namespace WHERE nspname = $1", schema):
                await db.execute(f"CREATE SCHEMA {schema}")
            await db.execute(f"CREATE TABLE {schema}.version AS SELECT 0 AS version, 0 AS oldest")
        for script in scripts[version:]:
            await db.execute(script)
        await db.execute(f"UPDATE {schema}.version SET version = greatest(version, {len(scripts)})")  # noqa: S608


async def _version(db: asyncpg.Connection, schema: str, known: int) -> int:
    # Not `to_regclass`, which may use a cache from before the wait for the lock.
    tables = "SELECT FROM pg_tables WHERE schemaname = $1 AND tablename = 'version'"
    if not await db.fetch(tables, schema):
        return 0
    # Restored data may have brought a second row.
    highest = "coalesce(max(version), 0) AS version, coalesce(max(oldest), 0) AS oldest"
    (row,) = await db.fetch(f"SELECT {highest} FROM {schema}.version")  # noqa: S608
    if row["oldest"] > known:
        raise ValueError(f"its schema {schema} needs version {row['oldest']} of this program")
    if row["version"] > known:
        log.warning("schema %s is at version %d, newer than ours", schema, row["version"])
    return int(row["version"])


async def _prepare(connection: asyncpg.Connection) -> None:
    await connection.set_type_codec("text", schema="pg_catalog", encoder=_encode, decoder=_decode)


# PostgreSQL's texts can't contain NUL, but messages can.
def _encode(text: str) -> str:
    return text.replace("\x1b", "\x1b1").replace("\0", "\x1b0")


def _decode(text: str) -> str:
    return text.replace("\x1b0", "\0").replace("\x1b1", "\x1b")
