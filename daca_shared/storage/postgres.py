"""One PostgreSQL database for an asyncio service: single statements, each its own transaction."""

import asyncio
import logging
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any, Self

import asyncpg
from pydantic import SecretStr

from daca_shared.domain import Unavailable
from daca_shared.observe.tracing import NO_TRACING, Tracing
from daca_shared.storage import unavailable

log = logging.getLogger(__name__)

# The most that one statement may take, the wait for a connection included. The server gives
# up at the same time, so that it doesn't work, or hold locks, for nobody.
_TIMEOUT_S = 5.0
# How long a migration may take, and how long it may keep a running system waiting for a table.
_DDL_TIMEOUT_S, _DDL_LOCK_TIMEOUT_S = 300.0, 2.0
_MAX_CONNECTIONS = 8

_SETTINGS = {
    "application_name": "daca-chat",
    "default_transaction_isolation": "read committed",
    # It costs tens of milliseconds where a statement takes one.
    "jit": "off",
}
_ERRORS = (
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    # What a connection that the server has just ended may answer.
    asyncpg.InternalClientError,
    OSError,
    TimeoutError,
)
# These are a bug of ours: nobody should try again.
_FAULTS = (asyncpg.DataError, asyncpg.IntegrityConstraintViolationError)


class PostgresDatabase:
    """Runs statements on a pool of connections, which come back by themselves after a restart
    of the server."""

    def __init__(self, pool: asyncpg.Pool, timeout_s: float, tracing: Tracing) -> None:
        self._pool = pool
        self._timeout_s = timeout_s
        self._tracing = tracing

    @classmethod
    async def open(
        cls,
        url: SecretStr,
        schema: str,
        migrations: Sequence[str],
        tracing: Tracing = NO_TRACING,
        *,
        timeout_s: float = _TIMEOUT_S,
    ) -> Self:
        """Connect, and bring `schema` up to date. Raises `Unavailable`."""
        dsn = url.get_secret_value().replace("postgresql+asyncpg:", "postgresql:", 1)
        try:
            connection = await asyncpg.connect(
                dsn, timeout=timeout_s, command_timeout=_DDL_TIMEOUT_S
            )
            try:
                await _migrate(connection, schema, migrations)
            finally:
                await connection.close(timeout=timeout_s)
            pool = await asyncpg.create_pool(
                dsn,
                min_size=0,
                max_size=_MAX_CONNECTIONS,
                timeout=timeout_s,
                server_settings=_SETTINGS | {"statement_timeout": f"{timeout_s * 1000:.0f}"},
            )
        except (*_ERRORS, ValueError) as error:
            raise Unavailable(f"PostgreSQL can't be used: {error}") from error
        return cls(pool, timeout_s, tracing)

    async def read(self, statement: str, *arguments: Any) -> list[Any]:
        """Run one statement. Raises `Unavailable` if PostgreSQL fails or is too slow."""
        with self._tracing.span("PostgreSQL read"):
            return await self._fetch(statement, *arguments)

    async def write(self, statement: str, *arguments: Any) -> list[Any]:
        """Run one statement; once this returns, its effect is on disk.

        Raises `Unavailable` if PostgreSQL fails or is too slow; the statement may then have
        had its effect or not.
        """
        with self.writing():
            return await self._fetch(statement, *arguments)

    def writing(self) -> AbstractContextManager[None]:
        """The span of a write, for whoever waits for one that a group shares."""
        return self._tracing.span("PostgreSQL write")

    async def close(self) -> None:
        """Let go of the connections."""
        try:
            async with asyncio.timeout(self._timeout_s):
                await self._pool.close()
        except _ERRORS:
            self._pool.terminate()

    async def _fetch(self, statement: str, *arguments: Any) -> list[Any]:
        try:
            async with asyncio.timeout(self._timeout_s), self._pool.acquire() as connection:
                try:
                    rows: list[Any] = await connection.fetch(statement, *arguments)
                except BaseException as error:
                    # Unless PostgreSQL itself has answered, nobody should use it again, or
                    # wait until it is in order.
                    if not isinstance(error, asyncpg.PostgresError):
                        connection.terminate()
                    raise
        except _FAULTS:
            raise
        except _ERRORS as error:
            log.error("PostgreSQL failed: %s: %s", type(error).__name__, error)  # noqa: TRY400
            raise unavailable() from error
        return rows


async def _migrate(db: asyncpg.Connection, schema: str, migrations: Sequence[str]) -> None:
    """Run those of `migrations` that the database has not had.

    They run under a running system and leave it working: they only add. One that takes away
    what older programs need sets `oldest` to its own number; those then refuse to start.
    """
    if await _version(db, schema, len(migrations)) >= len(migrations):
        return
    async with db.transaction():
        # Of several that start at once, one migrates.
        await db.execute("SELECT pg_advisory_xact_lock(hashtext($1))", f"daca {schema}")
        version = await _version(db, schema, len(migrations))
        await db.execute(f"SET LOCAL lock_timeout = '{_DDL_LOCK_TIMEOUT_S:.0f}s'")
        if not version:
            await db.execute(
                f"""CREATE SCHEMA IF NOT EXISTS {schema};
                CREATE TABLE {schema}.version (version integer NOT NULL, oldest integer NOT NULL);
                INSERT INTO {schema}.version VALUES (0, 0)"""  # noqa: S608
            )
        for migration in migrations[version:]:
            await db.execute(migration)
        if version < len(migrations):
            await db.execute(f"UPDATE {schema}.version SET version = $1", len(migrations))  # noqa: S608


async def _version(db: asyncpg.Connection, schema: str, known: int) -> int:
    # Not by `to_regclass`: that may answer from a cache of before the wait for the lock.
    tables = "SELECT FROM pg_tables WHERE schemaname = $1 AND tablename = 'version'"
    if not await db.fetch(tables, schema):
        return 0
    (row,) = await db.fetch(f"SELECT version, oldest FROM {schema}.version")  # noqa: S608
    if row["oldest"] > known:
        raise ValueError(f"its schema {schema} needs version {row['oldest']} of this program")
    if row["version"] > known:
        log.warning("schema %s is at version %d, newer than ours", schema, row["version"])
    return int(row["version"])
