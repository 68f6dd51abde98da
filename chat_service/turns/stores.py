"""Opens what the chat service keeps: in a SQLite file, or in a PostgreSQL."""

import asyncio
import logging
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from pydantic import SecretStr

from chat_service.outbox.outbox import Outbox, Recorder
from chat_service.outbox.outbox_rows import (
    OutboxRows,
    SqliteOutboxRows,
    add_origin,
    add_owner,
    create_outbox,
    index_users,
)
from chat_service.turns import postgres
from chat_service.turns.archive import SqliteArchive, create_memory
from chat_service.turns.history import Archive
from chat_service.turns.leases import TurnLeases
from chat_service.turns.memory import Memory
from chat_service.turns.postgres import PostgresArchive, PostgresOutboxRows
from chat_service.turns.turn_locks import FileTurnLocks
from daca_shared.domain import DomainError
from daca_shared.observe.tracing import NO_TRACING, Tracing
from daca_shared.storage.postgres import PostgresDatabase
from daca_shared.storage.sqlite import SqliteDatabase

log = logging.getLogger(__name__)

# In this order for ever: a database knows by their number which it has had.
MIGRATIONS = (create_outbox, create_memory, add_owner, add_origin, index_users)
# What is left in the outbox after this is sent after the next start.
_LAST_FLUSH_S = 2.0


@dataclass(frozen=True)
class Stores:
    """What is kept, for this process."""

    outbox_rows: OutboxRows
    memory: Memory
    archive: Archive


@asynccontextmanager
async def open_stores(
    place: Path | SecretStr, tracing: Tracing = NO_TRACING
) -> AsyncIterator[Stores]:
    """The stores in a SQLite file, or in the PostgreSQL of a URL. Raises `Unavailable`."""
    if isinstance(place, Path):
        opening = _open_sqlite(place, tracing)
    else:
        opening = _open_postgres(place, tracing)
    async with opening as stores:
        yield stores


@asynccontextmanager
async def _open_sqlite(path: Path, tracing: Tracing) -> AsyncIterator[Stores]:
    database = await SqliteDatabase.open(path, MIGRATIONS, tracing)
    try:
        locks = FileTurnLocks(path.with_suffix(".lock"))
        try:
            archive = SqliteArchive(database)
            yield Stores(SqliteOutboxRows(database), Memory(archive, locks), archive)
        finally:
            locks.close()
    finally:
        await database.close()


@asynccontextmanager
async def _open_postgres(url: SecretStr, tracing: Tracing) -> AsyncIterator[Stores]:
    database = await PostgresDatabase.open(url, "chat", postgres.MIGRATIONS, tracing)
    try:
        holder = secrets.randbits(62)
        leases = TurnLeases(database, holder)
        archive = PostgresArchive(database, holder)
        renewing = asyncio.create_task(leases.run())
        try:
            yield Stores(PostgresOutboxRows(database), Memory(archive, leases), archive)
        finally:
            renewing.cancel()
            await leases.close()
    finally:
        await database.close()


@asynccontextmanager
async def sending(
    rows: OutboxRows, recorder: Recorder, tracing: Tracing = NO_TRACING
) -> AsyncIterator[Outbox]:
    """The outbox, which is being sent; at the end what is left there is sent if `recorder`
    takes it at once."""
    outbox = Outbox(rows, recorder, tracing)
    running = asyncio.create_task(outbox.run())
    try:
        yield outbox
    finally:
        running.cancel()
        await asyncio.wait([running])
    try:
        async with asyncio.timeout(_LAST_FLUSH_S):
            await outbox.flush()
    except (DomainError, TimeoutError):
        log.info("messages that analytics has not counted stay in the outbox")
