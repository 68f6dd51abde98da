"""One SQLite file for an asyncio service: durable group commits, reads beside them."""

import asyncio
import fcntl
import os
import sqlite3
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Self
from uuid import UUID

from daca_shared.domain import Unavailable
from daca_shared.observe.tracing import NO_TRACING, Tracing
from daca_shared.storage.database import Row, Work, purge, storage_failed
from daca_shared.storage.groups import Groups

# How long a write waits for another program's lock, a backup's say, before it fails.
_BUSY_TIMEOUT_S, _BUSY_POLL_S = 1.0, 0.005
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


class SqliteDatabase:
    """A `Database` in a file that belongs to this process alone.

    Statements run on the event loop: in a thread each would wait for the interpreter's lock, and
    cost ten times as much. Only the commit, which waits for the disk, has a thread. Writes that
    arrive during a commit share the next one, so that surviving power loss (`synchronous=FULL`)
    costs one disk flush a group."""

    is_shared = False

    def __init__(
        self, writer: sqlite3.Connection, reader: sqlite3.Connection, lock: int, tracing: Tracing
    ) -> None:
        self._writer = writer
        self._reader = reader
        self._lock = lock
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
            with ExitStack() as on_failure:
                lock = _lock(path.with_suffix(".lock"))
                on_failure.callback(os.close, lock)
                writer = on_failure.enter_context(closing(_connect(path, schema)))
                writer.execute(f"PRAGMA {schema}.journal_mode = WAL")
                writer.execute(f"PRAGMA {schema}.synchronous = FULL")
                writer.execute(f"PRAGMA {schema}.secure_delete = ON")
                _migrate(writer, schema, scripts)
                reader = on_failure.enter_context(closing(_connect(path, schema)))
                reader.execute("PRAGMA query_only = ON")
                # From now on nothing may hold up the event loop.
                for connection in (writer, reader):
                    connection.execute("PRAGMA busy_timeout = 0")
                on_failure.pop_all()
        except (OSError, sqlite3.Error) as error:
            raise Unavailable(f"The database {path} can't be opened: {error}") from error
        return cls(writer, reader, lock, tracing)

    async def read(self, statement: str, *arguments: Any) -> list[Row]:
        try:
            with self._tracing.span("SQLite read"):
                return await _Statements(self._reader).fetch(statement, *arguments)
        except sqlite3.Error as error:
            raise storage_failed("SQLite", error) from error

    async def write[T](self, work: Work[T]) -> T:
        done: asyncio.Future[T] = self._groups.put(work)
        try:
            with self._tracing.span("SQLite write"):
                return await done
        except sqlite3.Error as error:
            raise storage_failed("SQLite", error) from error

    def time(self, stored: int) -> datetime:
        """SQLite has no type for times: they are microseconds since 1970."""
        return _EPOCH + stored * _MICROSECOND

    async def close(self) -> None:
        await self._groups.finish()
        self._reader.close()
        # The last connection's end writes everything into the main file.
        await asyncio.wrap_future(self._disk.submit(self._writer.close))
        self._disk.shutdown()
        os.close(self._lock)

    async def _commit(self, group: list[Work[Any]]) -> list[Any]:
        await self._begin()
        try:
            results = [await work(_Statements(self._writer)) for work in group]
            await asyncio.wrap_future(self._disk.submit(self._writer.execute, "COMMIT"))
            if purge in group:  # of old pages in the log; the file's own are overwritten
                empty_log = "PRAGMA wal_checkpoint(TRUNCATE)"
                await asyncio.wrap_future(self._disk.submit(self._writer.execute, empty_log))
        except BaseException as error:
            # SQLite has already rolled back by itself after some failures (disk full).
            if self._writer.in_transaction:
                self._writer.execute("ROLLBACK")
            # A full disk, a lock or damage is no single write's fault.
            if not isinstance(error, Exception) or isinstance(error, sqlite3.OperationalError):
                raise
            if len(group) == 1:
                return [error]
            # One has failed, so each again, alone.
            return [result for work in group for result in await self._commit([work])]
        return results

    async def _begin(self) -> None:
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


def _connect(path: Path, schema: str) -> sqlite3.Connection:
    # Attached, so that tables have the same names as in PostgreSQL's schema.
    connection = sqlite3.connect(
        ":memory:", timeout=_BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False
    )
    connection.execute(f"ATTACH ? AS {schema}", (str(path),))
    # As PostgreSQL has them: SQLite's own `lower` knows ASCII only.
    connection.create_function("lower", 1, str.lower, deterministic=True)
    connection.create_function(
        "strpos", 2, lambda text, part: text.find(part) + 1, deterministic=True
    )
    return connection


def _lock(path: Path) -> int:
    file = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        pid = os.read(file, 20).decode(errors="replace").strip() or "unknown"
        os.close(file)
        problem = f"process {pid} uses this data folder, which is for one process at a time"
        raise OSError(problem) from None
    os.ftruncate(file, 0)
    os.write(file, f"{os.getpid()}\n".encode())
    return file


def _migrate(connection: sqlite3.Connection, schema: str, scripts: Sequence[str]) -> None:
    (version,) = connection.execute(f"PRAGMA {schema}.user_version").fetchone()
    if version > len(scripts):
        problem = f"its schema version {version} is newer than this program's {len(scripts)}"
        raise sqlite3.DatabaseError(problem)
    for number, script in enumerate(scripts[version:], version + 1):
        # Of one that fails nothing stays, as the connection is then closed.
        connection.executescript(
            f"BEGIN IMMEDIATE; {script}; PRAGMA {schema}.user_version = {number}; COMMIT"
        )
