"""One SQLite file for an asyncio service: durable group commits, reads beside them."""

import asyncio
import logging
import sqlite3
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path
from typing import Any, Self

from daca_shared.domain import Unavailable
from daca_shared.observe.tracing import NO_TRACING, Tracing
from daca_shared.storage import unavailable
from daca_shared.storage.groups import Groups

log = logging.getLogger(__name__)

# How long a write waits for another process's lock before it fails.
_BUSY_TIMEOUT_S, _BUSY_POLL_S = 1.0, 0.005

type Work[T] = Callable[[sqlite3.Connection], T]


class SqliteDatabase:
    """Runs short functions on a connection.

    They run on the event loop: their work is in memory, and a trip to a thread, on which every
    statement waits for the interpreter's lock anew, would cost ten times as much. Only what
    waits for the disk, the commit, has a thread. Writes that arrive while a commit is under
    way share the next one, so that durability (`synchronous=FULL`: a commit survives power
    loss) costs one disk flush per group. Each function is all-or-nothing.
    """

    def __init__(self, path: Path, tracing: Tracing = NO_TRACING) -> None:
        self._path = path
        self._tracing = tracing
        # Full, locked or broken is nobody's own fault, and lasts.
        self._groups = Groups[Work[Any], Any](self._commit, lasting=sqlite3.OperationalError)
        self._disk = ThreadPoolExecutor(1, thread_name_prefix="sqlite-commit")
        self._writer: sqlite3.Connection
        self._reader: sqlite3.Connection

    @classmethod
    async def open(
        cls, path: Path, migrations: Sequence[Work[None]], tracing: Tracing = NO_TRACING
    ) -> Self:
        """Open or create the file and bring its schema up to date.

        `migrations` run in order, each once in the file's life (`user_version`
        counts them). Raises `Unavailable` when the file can't be used.
        """
        database = cls(path, tracing)
        try:
            await database._open(migrations)
        except (OSError, sqlite3.Error) as error:
            raise Unavailable(f"The database {path} can't be opened: {error}") from error
        return database

    async def read[T](self, work: Work[T]) -> T:
        """Run `work` on the read connection. Raises `Unavailable` if SQLite fails."""
        try:
            with self._tracing.span("SQLite read"):
                return work(self._reader)
        except sqlite3.Error as error:
            raise _unavailable(error) from error

    async def write[T](self, work: Work[T]) -> T:
        """Run `work` in a transaction; once this returns, its effect is on disk.

        Raises `Unavailable` if SQLite fails (disk full, locked); nothing of
        `work` is kept then. A cancelled caller may find its work done or not.
        """
        done: asyncio.Future[T] = self._groups.put(work)
        try:
            with self._tracing.span("SQLite write"):
                return await done
        except sqlite3.Error as error:
            raise _unavailable(error) from error

    async def close(self) -> None:
        """Finish what was asked for, then let go of the file."""
        await self._groups.finish()
        self._reader.close()
        # The last connection's end writes everything into the main file.
        await asyncio.get_running_loop().run_in_executor(self._disk, self._writer.close)
        self._disk.shutdown()

    async def _commit(self, group: list[Work[Any]]) -> list[Any]:
        return await self._in_transaction(lambda db: [work(db) for work in group])

    async def _in_transaction[T](self, work: Work[T]) -> T:
        await self._begin()
        try:
            result = work(self._writer)
            await asyncio.get_running_loop().run_in_executor(
                self._disk, self._writer.execute, "COMMIT"
            )
        except BaseException:
            # SQLite has already rolled back by itself after some failures (disk full).
            if self._writer.in_transaction:
                self._writer.execute("ROLLBACK")
            raise
        return result

    async def _begin(self) -> None:
        """Take the write lock; another process may have it for a while."""
        deadline = time.monotonic() + _BUSY_TIMEOUT_S
        while True:
            try:
                self._writer.execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError as error:
                busy = error.sqlite_errorcode == sqlite3.SQLITE_BUSY
                if not busy or time.monotonic() > deadline:
                    raise
                await asyncio.sleep(_BUSY_POLL_S)
            else:
                return

    async def _open(self, migrations: Sequence[Work[None]]) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with ExitStack() as on_failure:
            on_failure.callback(self._disk.shutdown)
            self._writer = on_failure.enter_context(closing(self._connect()))
            self._writer.execute("PRAGMA journal_mode = WAL")
            self._writer.execute("PRAGMA synchronous = FULL")
            await self._in_transaction(partial(_migrate, migrations))
            self._reader = on_failure.enter_context(closing(self._connect()))
            self._reader.execute("PRAGMA query_only = ON")
            # From now on nothing may hold up the event loop.
            for connection in (self._writer, self._reader):
                connection.execute("PRAGMA busy_timeout = 0")
            on_failure.pop_all()

    def _connect(self) -> sqlite3.Connection:
        return sqlite3.connect(
            self._path, timeout=_BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False
        )


def _migrate(migrations: Sequence[Work[None]], db: sqlite3.Connection) -> None:
    (version,) = db.execute("PRAGMA user_version").fetchone()
    if version > len(migrations):
        raise sqlite3.DatabaseError(
            f"its schema version {version} is newer than this program's {len(migrations)}"
        )
    for migration in migrations[version:]:
        migration(db)
    db.execute(f"PRAGMA user_version = {len(migrations)}")


def _unavailable(error: sqlite3.Error) -> Unavailable:
    log.error("SQLite failed: %s", error)
    return unavailable()
