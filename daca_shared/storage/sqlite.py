"""One SQLite file for an asyncio service: durable group commits, and reads beside them."""

import asyncio
import os
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import Context
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, Self
from uuid import UUID

from daca_shared.domain import MOMENT_S, Unavailable
from daca_shared.fair_limit import FairLimit
from daca_shared.observe.tracing import tracing
from daca_shared.storage.database import Row, Statements, Work, searched, storage_failed, unattended
from daca_shared.storage.sqlite_file import BUSY_TIMEOUT_S, SqliteFile, named

_BUSY_POLL_S = 0.005
# More writes per commit gain little: 64 already give 11 times the throughput of one.
_MAX_GROUP = 256
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
sqlite3.register_adapter(UUID, lambda value: value.bytes)
sqlite3.register_converter("BLOB", lambda value: UUID(bytes=value))  # nothing else is a BLOB
sqlite3.register_adapter(datetime, lambda value: (value - _EPOCH) // _MICROSECOND)


async def _emptying(statements: Statements) -> None:
    """Does nothing itself, but makes `_commit` empty the log (WAL) after this work's group."""


class SqliteDatabase:
    """A `Database` in a file that belongs to this process alone.

    Statements run on the event loop: in a thread, each would wait for the GIL and cost ten times
    as much. Commits, which wait for the disk, have a thread, and so have searches. Writes that
    arrive during a commit share the next one, so that surviving a power loss (`synchronous=FULL`)
    takes one disk flush for all of them."""

    is_shared = False
    search_timeout_s = 4.5

    def __init__(self, file: SqliteFile) -> None:
        self._file = file
        self._is_lost = self._is_closed = False
        self._pending: list[tuple[Work[Any], asyncio.Future[Any]]] = []
        self._writing: asyncio.Task[None] | None = None
        self._commit_thread = ThreadPoolExecutor(1, thread_name_prefix="sqlite-commit")
        self._search_thread = ThreadPoolExecutor(1, thread_name_prefix="sqlite-search")
        self._searches = FairLimit(1)

    @classmethod
    async def open(cls, path: Path, schema: str, scripts: Sequence[str]) -> Self:
        """Open or create the file. Raises `Unavailable`, also if another process uses it."""
        try:
            return cls(SqliteFile(path, schema, scripts))
        except (OSError, sqlite3.Error) as error:
            by = f" by user {os.geteuid()}" if isinstance(error, PermissionError) else ""
            raise Unavailable(f"DACA_DATA_DIR: {path} can't be opened{by}: {error}") from error

    async def read(self, statement: str, *arguments: Any) -> list[Row]:
        with self._use("SQLite read"):
            return self._file.reader.execute(statement, named(arguments)).fetchall()

    async def search(self, user_id: str, statement: str, *arguments: Any) -> list[Row]:
        async def search(left_s: float) -> list[Row]:
            with self._use("SQLite search"):
                work = partial(self._file.search, statement, arguments, left_s + MOMENT_S)
                return await asyncio.wrap_future(self._search_thread.submit(work))

        return await searched(self._searches.slot(user_id), search, self.search_timeout_s)

    async def write[T](self, work: Work[T]) -> T:
        with self._use("SQLite write"):
            return await self._queue(work)

    async def purge(self) -> None:
        async def empty_log() -> None:
            with self._use("SQLite purge"):
                # What a search still reads would stay in the log.
                async with self._searches.slots:
                    await self._queue(_emptying)

        await unattended(empty_log())

    async def check(self) -> None:
        try:
            with self._use("SQLite check"):
                await self._queue(lambda statements: asyncio.sleep(0))  # an empty transaction
                # Not in the loop's own threads, as blocking tools may occupy all of them.
                await self._in_commit_thread(self._file.check)
        except Unavailable as error:
            problem = f"The database can't be used: {what_is_wrong(error.__cause__)}"
            raise Unavailable(problem) from error

    def time(self, stored: int) -> datetime:
        """SQLite has no type for times. They are stored as microseconds since 1970."""
        return _EPOCH + stored * _MICROSECOND

    async def close(self) -> None:
        self._file.ends_searches = True
        async with self._searches.slots:  # once searches and purges have ended
            while self._writing and not self._writing.done():
                await asyncio.wait([self._writing])
            self._is_closed = True
        # Closing the last connection writes everything into the main file.
        await self._in_commit_thread(self._file.end)

    async def _in_commit_thread[T](self, work: Callable[[], T]) -> T:
        return await asyncio.wrap_future(self._commit_thread.submit(work))

    @contextmanager
    def _use(self, span: str) -> Iterator[None]:
        try:
            # Using a connection while a thread closes it would crash the process.
            if self._is_closed:
                raise sqlite3.ProgrammingError("it is closed")
            with tracing.span(span):
                yield
        except (OSError, sqlite3.Error) as error:
            # After these errors the file must be opened again, once a good one is there.
            code = getattr(error, "sqlite_errorcode", 0) & 0xFF
            self._is_lost |= code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
            raise storage_failed("SQLite", error) from error

    def _queue[T](self, work: Work[T]) -> asyncio.Future[T]:
        """Queue `work`. If the future that gets its result is cancelled, it may be done or not."""
        done: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._pending.append((work, done))
        if self._writing is None or self._writing.done():
            # In its own context, as a group's log lines aren't just the first caller's.
            self._writing = asyncio.create_task(self._write_pending(), context=Context())
        return done

    async def _write_pending(self) -> None:
        while self._pending:
            taken, self._pending = self._pending[:_MAX_GROUP], self._pending[_MAX_GROUP:]
            group = [(work, done) for work, done in taken if not done.done()]
            try:
                outcomes = await self._commit([work for work, _ in group]) if group else []
            except Exception as error:
                outcomes = [error] * len(group)
            for (_, done), outcome in zip(group, outcomes, strict=True):
                tell = done.set_exception if isinstance(outcome, Exception) else done.set_result
                if not done.done():
                    tell(outcome)

    async def _commit(self, group: list[Work[Any]]) -> list[Any]:
        """Returns the results of the group; for work that failed by itself, its exception."""
        if self._is_lost:
            # Nothing is served until a good file is there. Reads are refused from now on, and
            # searches have ended once their thread is free.
            self._file.ends_searches = True
            self._file.reader.close()
            self._file = await asyncio.wrap_future(self._search_thread.submit(self._file.reopen))
            self._is_lost = False
        await self._begin()
        try:
            results = [await work(self._file) for work in group]
            await self._in_commit_thread(self._file.commit)
            if _emptying in group:
                await self._in_commit_thread(self._file.empty_log)
        except BaseException as error:
            # After some failures (disk full) SQLite has already rolled back by itself.
            if self._file.writer.in_transaction:
                self._file.writer.execute("ROLLBACK")
            # A full disk, a lock or damage is not the fault of a single write.
            if not isinstance(error, Exception) or isinstance(error, sqlite3.OperationalError):
                raise
            if len(group) == 1:
                return [error]
            # One of them failed: repeat each by itself.
            return [result for work in group for result in await self._commit([work])]
        return results

    async def _begin(self) -> None:
        deadline = time.monotonic() + BUSY_TIMEOUT_S
        while not self._file.writer.in_transaction:
            try:
                self._file.writer.execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError as error:
                busy = error.sqlite_errorcode == sqlite3.SQLITE_BUSY
                if not busy or time.monotonic() > deadline:
                    raise
                await asyncio.sleep(_BUSY_POLL_S)


def what_is_wrong(error: BaseException | None) -> str:
    """Describes the error without a path, as strangers may read it."""
    if isinstance(error, OSError) and error.errno:
        return os.strerror(error.errno)
    # SQLite's errors have names like SQLITE_CORRUPT; ours have none.
    return getattr(error, "sqlite_errorname", str(error)).removeprefix("SQLITE_").lower()
