"""One SQLite file for an asyncio service: durable group commits, reads beside them."""

import asyncio
import sqlite3
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, Self
from uuid import UUID

from daca_shared.domain import Unavailable
from daca_shared.observe.tracing import NO_TRACING, Tracing
from daca_shared.storage.database import Row, Statements, Work, storage_failed
from daca_shared.storage.groups import Groups
from daca_shared.storage.sqlite_file import (
    BUSY_TIMEOUT_S,
    SqliteFile,
    check_content,
    must_reopen,
    what_is_wrong,
)

_BUSY_POLL_S = 0.005
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


class SqliteDatabase:
    """A `Database` in a file that belongs to this process alone.

    Statements run on the event loop: in a thread each would wait for the interpreter's lock, and
    cost ten times as much. Only the commit, which waits for the disk, has a thread. Writes that
    arrive during a commit share the next one, so that surviving power loss (`synchronous=FULL`)
    costs one disk flush a group."""

    is_shared = False

    def __init__(self, open_file: Callable[[], SqliteFile], tracing: Tracing) -> None:
        self._open_file = open_file
        self._file = open_file()
        self._must_reopen = False
        self._tracing = tracing
        self._groups = Groups[Work[Any], Any](self._commit)
        self._disk = ThreadPoolExecutor(1, thread_name_prefix="sqlite-commit")

    @classmethod
    async def open(
        cls, path: Path, schema: str, scripts: Sequence[str], tracing: Tracing = NO_TRACING
    ) -> Self:
        """Open or create the file, and run the `scripts` that it has not had. Raises `Unavailable`
        if the file can't be used, or another process uses it."""
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            return cls(partial(SqliteFile, path, schema, scripts), tracing)
        except (OSError, sqlite3.Error) as error:
            raise Unavailable(f"The database {path} can't be opened: {error}") from error

    async def read(self, statement: str, *arguments: Any) -> list[Row]:
        try:
            with self._tracing.span("SQLite read"):
                return await _Statements(self._file.reader).fetch(statement, *arguments)
        except sqlite3.Error as error:
            raise self._failed(error) from error

    async def write[T](self, work: Work[T]) -> T:
        done: asyncio.Future[T] = self._groups.put(work)
        try:
            with self._tracing.span("SQLite write"):
                return await done
        except (OSError, sqlite3.Error) as error:
            raise self._failed(error) from error

    async def check(self) -> None:
        try:
            if self._must_reopen:
                await self._reopen()
            await asyncio.to_thread(self._file.check)
            await self._groups.put(_do_nothing)
        except (OSError, sqlite3.Error) as error:
            self._must_reopen |= must_reopen(error)
            raise Unavailable(what_is_wrong(error)) from error

    def time(self, stored: int) -> datetime:
        """SQLite has no type for times: they are microseconds since 1970."""
        return _EPOCH + stored * _MICROSECOND

    async def close(self) -> None:
        await self._groups.finish()
        # The last connection's end writes everything into the main file.
        await asyncio.wrap_future(self._disk.submit(self._file.close))
        self._disk.shutdown()

    def _failed(self, error: Exception) -> Unavailable:
        self._must_reopen |= must_reopen(error)
        return storage_failed("SQLite", error)

    async def _reopen(self) -> None:
        """Serve nothing until the file that is at the path is in order, and go on with that."""
        if self._file.is_busy:
            return  # the next check will do it
        # Of a file that is in place, this writes what is known beside it into it.
        self._file.close()
        await asyncio.to_thread(check_content, self._file.path)
        self._file = await asyncio.to_thread(self._open_file)
        self._must_reopen = False

    async def _commit(self, group: list[Work[Any]]) -> list[Any]:
        await self._begin()
        try:
            results = [await self._in_savepoint(work) for work in group]
            await asyncio.wrap_future(self._disk.submit(self._flush))
        except BaseException:
            # SQLite has already rolled back by itself after some failures (disk full).
            if self._file.writer.in_transaction:
                self._file.writer.execute("ROLLBACK")
            raise
        return results

    def _flush(self) -> None:
        self._file.writer.execute("COMMIT")
        # In files that were removed it is lost, though SQLite doesn't mind.
        self._file.check_present()

    async def _in_savepoint(self, work: Work[Any]) -> Any:
        """The result of `work`; or its exception, and nothing of what it has done."""
        self._file.writer.execute("SAVEPOINT work")
        try:
            return await work(_Statements(self._file.writer))
        except sqlite3.OperationalError:
            raise  # a full disk, a lock or damage is no single write's fault
        except Exception as error:
            self._file.writer.execute("ROLLBACK TO work")
            return error
        finally:
            if self._file.writer.in_transaction:
                self._file.writer.execute("RELEASE work")

    async def _begin(self) -> None:
        deadline = time.monotonic() + BUSY_TIMEOUT_S
        while True:
            try:
                self._file.writer.execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError as error:
                busy = error.sqlite_errorcode == sqlite3.SQLITE_BUSY
                if not busy or time.monotonic() > deadline:
                    raise
                await asyncio.sleep(_BUSY_POLL_S)
            else:
                return


class _Statements:
    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    async def fetch(self, statement: str, *arguments: Any) -> list[Row]:
        # To SQLite `$1` is a parameter of the name 1.
        named = {str(n): _encode(argument) for n, argument in enumerate(arguments, 1)}
        found = self._connection.execute(statement, named)
        return [[_decode(value) for value in row] for row in found]

    async def fetchmany(self, statement: str, arguments: Sequence[Sequence[Any]]) -> list[Row]:
        return [row for each in arguments for row in await self.fetch(statement, *each)]


def _encode(value: Any) -> Any:
    if isinstance(value, UUID):
        return value.bytes
    if isinstance(value, datetime):
        return (value - _EPOCH) // _MICROSECOND
    return value


def _decode(value: Any) -> Any:
    return UUID(bytes=value) if isinstance(value, bytes) else value  # only UUIDs are binary


async def _do_nothing(statements: Statements) -> None:
    """A write that shows whether there could be one."""
