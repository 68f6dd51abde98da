"""One PostgreSQL database for an asyncio service."""

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any, Self

import asyncpg
from pydantic import SecretStr

from daca_shared.domain import DomainError, Unavailable
from daca_shared.observe.tracing import NO_TRACING, Tracing
from daca_shared.postgres_url import PostgresUrl
from daca_shared.storage.database import Row, Work, storage_failed

log = logging.getLogger(__name__)

# The most that one transaction may take, the wait for a connection included. The server gives
# a statement up at the same time, so that it doesn't work, or hold locks, for nobody.
_TIMEOUT_S = 5.0
# How long a migration may take, and how long it may keep a running system waiting for a table.
_DDL_TIMEOUT_S, _DDL_LOCK_TIMEOUT_S = 300.0, 2.0
# The server has few, so those that nobody uses are others' to have.
_CONNECTIONS, _IDLE_S = 8, 10.0
# A timeout is an OSError. The last is what a connection may raise that was just closed.
_ERRORS = (asyncpg.PostgresError, OSError, asyncpg.InterfaceError, asyncpg.InternalClientError)
# These are bugs of ours: trying again won't help.
_FAULTS = (asyncpg.DataError, asyncpg.IntegrityConstraintViolationError)


# What is wrong, in words for whoever has to mend it: the first that fits.
_WORDS: tuple[tuple[type[Exception], str], ...] = (
    (asyncpg.TooManyConnectionsError, "has no connection left for us"),
    (asyncpg.InvalidAuthorizationSpecificationError, "refuses our user or password"),
    (asyncpg.InvalidCatalogNameError, "has no such database"),
    (asyncpg.InsufficientPrivilegeError, "denies us our tables"),
    (asyncpg.UndefinedTableError, "has lost our tables"),
    (asyncpg.CannotConnectNowError, "is starting or stopping"),
    (asyncpg.DiskFullError, "has no room left"),
    (asyncpg.PostgresError, "fails"),
)


class PostgresDatabase:
    """A `Database` on a pool of connections, which come back after a restart of the server."""

    is_shared = True

    def __init__(self, pool: asyncpg.Pool, schema: str, timeout_s: float, tracing: Tracing) -> None:
        self._pool = pool
        # Also shows whether the tables are there, and ours to read.
        self._check = f"SELECT current_setting('transaction_read_only') FROM {schema}.version"  # noqa: S608
        self._timeout_s = timeout_s
        self._tracing = tracing

    @classmethod
    async def open(
        cls,
        url: SecretStr,
        schema: str,
        scripts: Sequence[str],
        tracing: Tracing = NO_TRACING,
        *,
        timeout_s: float = _TIMEOUT_S,
        idle_s: float = _IDLE_S,
    ) -> Self:
        """Connect, and run the `scripts` that `schema` has not had. Raises `Unavailable`."""
        place = PostgresUrl.of(url.get_secret_value())
        if place.wants_channel_binding:
            log.warning("channel_binding=require can't be had here; sslmode=verify-full serves too")
        limit_s = place.connect_timeout_s or timeout_s
        settings, cached = _settings(place, timeout_s), 0 if place.is_pgbouncer else 100
        try:
            db = await asyncpg.connect(
                place.dsn, timeout=limit_s, statement_cache_size=cached,
                command_timeout=_DDL_TIMEOUT_S,
            )  # fmt: skip
            try:
                await _migrate(db, schema, scripts)
            finally:
                await db.close(timeout=timeout_s)
            pool = await asyncpg.create_pool(
                place.dsn, timeout=limit_s, statement_cache_size=cached, server_settings=settings,
                min_size=0, max_size=_CONNECTIONS, max_inactive_connection_lifetime=idle_s,
                init=_prepare, reset=_leave,
            )  # fmt: skip
            async with pool.acquire():
                pass  # it begins otherwise than the one before
        except (*_ERRORS, ValueError) as error:
            what = str(error) or _what_is_wrong(error)
            raise Unavailable(f"PostgreSQL can't be used: {what}") from error
        return cls(pool, schema, timeout_s, tracing)

    async def read(self, statement: str, *arguments: Any) -> list[Row]:
        async with self._connection("PostgreSQL read") as connection:
            rows: list[Row] = await connection.fetch(statement, *arguments)
            return rows

    async def write[T](self, work: Work[T]) -> T:
        async with self._connection("PostgreSQL write") as connection:
            transaction = connection.transaction(isolation="read_committed")
            await transaction.start()
            try:
                result = await work(connection)
            except (asyncpg.PostgresError, DomainError):
                await transaction.rollback()
                raise
            await transaction.commit()
            return result

    async def check(self) -> None:
        try:
            ((read_only,),) = await self.read(self._check)
        except Unavailable as error:
            raise Unavailable(f"PostgreSQL {_what_is_wrong(error.__cause__)}") from error
        if read_only == "on":
            raise Unavailable("PostgreSQL takes no writes: it is a standby, or was set so")

    def time(self, stored: datetime) -> datetime:
        """Infinities come from asyncpg without a zone, other times with one."""
        return stored.replace(tzinfo=UTC)

    async def close(self) -> None:
        try:
            async with asyncio.timeout(self._timeout_s):
                await self._pool.close()
        except _ERRORS:
            self._pool.terminate()

    @asynccontextmanager
    async def _connection(self, span: str) -> AsyncIterator[asyncpg.Connection]:
        with self._tracing.span(span):
            try:
                async with asyncio.timeout(self._timeout_s), self._pool.acquire() as connection:
                    try:
                        yield connection
                    except BaseException as error:
                        # Unless PostgreSQL itself has answered, the connection is in an unknown
                        # state: nobody should use it again, or wait until it is in order.
                        if not isinstance(error, asyncpg.PostgresError | DomainError):
                            connection.terminate()
                        raise
            except _FAULTS:
                raise
            except _ERRORS as error:
                raise storage_failed("PostgreSQL", error) from error


async def _migrate(db: asyncpg.Connection, schema: str, scripts: Sequence[str]) -> None:
    """Run those of `scripts` that the database has not had. Most only add, so that older programs
    go on beside newer ones. One that takes away what they need sets `oldest` to its own number:
    they then refuse to start."""
    if await _version(db, schema, len(scripts)) >= len(scripts):
        return
    async with db.transaction():
        # Of several processes that start at once, one migrates.
        await db.execute("SELECT pg_advisory_xact_lock(hashtext($1))", f"daca {schema}")
        version = await _version(db, schema, len(scripts))
        await db.execute(f"SET LOCAL lock_timeout = '{_DDL_LOCK_TIMEOUT_S:.0f}s'")
        if not version:
            await db.execute(
                f"""CREATE SCHEMA IF NOT EXISTS {schema};
                CREATE TABLE {schema}.version (version integer NOT NULL, oldest integer NOT NULL);
                INSERT INTO {schema}.version VALUES (0, 0)"""  # noqa: S608
            )
        for script in scripts[version:]:
            await db.execute(script)
        if version < len(scripts):
            await db.execute(f"UPDATE {schema}.version SET version = $1", len(scripts))  # noqa: S608


async def _version(db: asyncpg.Connection, schema: str, known: int) -> int:
    # Not `to_regclass`, which may answer from a cache that is older than the wait for the lock.
    tables = "SELECT FROM pg_tables WHERE schemaname = $1 AND tablename = 'version'"
    if not await db.fetch(tables, schema):
        return 0
    (row,) = await db.fetch(f"SELECT version, oldest FROM {schema}.version")  # noqa: S608
    if row["oldest"] > known:
        raise ValueError(f"its schema {schema} needs version {row['oldest']} of this program")
    if row["version"] > known:
        log.warning("schema %s is at version %d, newer than ours", schema, row["version"])
    return int(row["version"])


def _what_is_wrong(error: BaseException | None) -> str:
    return next((words for kind, words in _WORDS if isinstance(error, kind)), "can't be reached")


def _settings(place: PostgresUrl, timeout_s: float) -> dict[str, str]:
    """What a connection begins with, unless the URL says it."""
    settings = {} if "application_name" in place.parameters else {"application_name": "daca-chat"}
    if place.is_pgbouncer:
        return settings  # the others it refuses: docs/scaling.md has its administrator set them
    # The planner's compiler costs tens of milliseconds, for statements that take one.
    return settings | {"jit": "off", "statement_timeout": f"{timeout_s * 1000:.0f}"}


async def _leave(connection: asyncpg.Connection) -> None:
    """As it is: nothing here outlives its transaction, so nothing has to be reset."""


async def _prepare(connection: asyncpg.Connection) -> None:
    await connection.set_type_codec("text", schema="pg_catalog", encoder=_encode, decoder=_decode)


# PostgreSQL's texts can't hold NUL, which a message may.
def _encode(text: str) -> str:
    return text.replace("\x1b", "\x1b1").replace("\0", "\x1b0")


def _decode(text: str) -> str:
    return text.replace("\x1b0", "\0").replace("\x1b1", "\x1b")
