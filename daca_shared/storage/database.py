"""The interface of stores to their database, a SQLite file or PostgreSQL. Both accept the same
statements: `$1` for an argument, `ON CONFLICT`, `RETURNING`, and tables named with their schema
(`chat.turns`). UUIDs and times are passed as `UUID` and `datetime`."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

from pydantic import SecretStr

from daca_shared.domain import TimedOut, Unavailable

log = logging.getLogger(__name__)

type Row = Sequence[Any]


class Statements(Protocol):
    """Runs statements inside one transaction, as a connection of asyncpg does."""

    async def fetch(self, statement: str, *arguments: Any) -> Sequence[Row]:
        """Run one statement, and return its rows."""

    async def fetchmany(self, statement: str, arguments: Sequence[Sequence[Any]]) -> Sequence[Row]:
        """Run one statement for each of `arguments`, and return the rows of all of them."""


type Work[T] = Callable[[Statements], Awaitable[T]]
"""What is done in one transaction, which may be repeated: other effects must be idempotent."""


class Database(Protocol):
    """Each call raises `Unavailable` if the database fails, and logs the cause."""

    is_shared: bool
    """Whether other processes may use it at the same time."""

    async def read(self, statement: str, *arguments: Any) -> Sequence[Row]:
        """Run one statement that changes nothing, and return its rows."""

    async def search(self, user_id: str, statement: str, *arguments: Any) -> Sequence[Row]:
        """The same, for a statement that searches many texts, which may take long. Few run at once,
        and one for each user. Raises `TimedOut` after `search_timeout_s`, including the wait."""

    async def write[T](self, work: Work[T]) -> T:
        """Run `work` in a transaction. Once this returns, its effect is on disk; if `work` raises,
        there is none. If the caller is cancelled, or the commit fails, it may be there or not."""

    async def purge(self) -> None:
        """Remove deleted rows from SQLite's log (WAL), too. It goes on if its caller leaves."""

    async def check(self) -> None:
        """Raises `Unavailable`, with words for an administrator, unless it can be read and written.
        Also reopens a database that has been repaired."""

    def time(self, stored: Any) -> datetime:
        """Converts a time in a row to UTC."""

    async def close(self) -> None:
        """Finish current writes, and disconnect."""


def unattended[T](work: Coroutine[Any, Any, T]) -> asyncio.Future[T]:
    """The result of `work`, which goes on if its caller is cancelled."""
    task = asyncio.create_task(work)
    task.add_done_callback(lambda task: task.cancelled() or task.exception())  # or asyncio logs it
    return asyncio.shield(task)


async def searched[T](
    slot: AbstractAsyncContextManager[None],
    search: Callable[[float], Coroutine[Any, Any, T]],
    timeout_s: float,
) -> T:
    """Run a search in its `slot`, which is held until the search ends, even if the caller has left:
    the database works on. `search` is given the seconds that are left. Raises `TimedOut`."""
    now_s = asyncio.get_running_loop().time
    ends_at_s = now_s() + timeout_s

    async def work(held: AsyncExitStack) -> T:
        async with held:
            return await search(ends_at_s - now_s())

    try:
        async with asyncio.timeout_at(ends_at_s), AsyncExitStack() as waited:
            await waited.enter_async_context(slot)
            return await unattended(work(waited.pop_all()))  # which now releases the slot
    except TimeoutError:
        problem = "The search took too long; try other words, or try again later"
        raise TimedOut(problem, code="SEARCH_TIMED_OUT") from None


def storage_failed(database: str, error: Exception) -> Unavailable:
    """What callers are told when a database fails. Logs the cause."""
    cause = f"{database} failed: {type(error).__name__}: {str(error) or 'no answer'}"
    _log_once_a_second(cause, int(time.monotonic()))
    problem = "The service's storage is unavailable; try again later"
    return Unavailable(problem, code="STORAGE_UNAVAILABLE")


@lru_cache(16)
def _log_once_a_second(cause: str, second: int) -> None:
    """While a database is away, each request fails for the same cause, which would fill the log."""
    log.error(cause)


async def open_database(
    place: Path | SecretStr, schema: str, migrations: Path, *, on_create: str = ""
) -> Database:
    """Open or create `schema` in a SQLite file, or in the PostgreSQL of a URL.

    `migrations` has a folder `sqlite` and one `postgres`, each with numbered SQL files; those that
    the database has not had are run. `on_create` is SQL for a new schema only. Raises
    `Unavailable`, saying why, if the database can't be used."""
    kind = "sqlite" if isinstance(place, Path) else "postgres"
    first, *others = read_scripts(migrations / kind)
    scripts = [first + on_create, *others]
    # Imported here, so that only the driver in use is loaded.
    if isinstance(place, Path):
        from daca_shared.storage.sqlite import SqliteDatabase  # noqa: PLC0415

        return await SqliteDatabase.open(place, schema, scripts)
    from daca_shared.storage.postgres import PostgresDatabase  # noqa: PLC0415

    return await PostgresDatabase.open(place, schema, scripts)


def read_scripts(folder: Path) -> list[str]:
    return [path.read_text() for path in sorted(folder.glob("*.sql"))]
