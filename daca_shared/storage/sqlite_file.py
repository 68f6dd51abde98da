"""A SQLite file: opening it, and checking that it is still there and in order."""

import logging
import os
import sqlite3
import time
from collections.abc import Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any, Literal, Self

from daca_shared.domain import TimedOut
from daca_shared.storage import files
from daca_shared.storage.database import Row

log = logging.getLogger(__name__)

BUSY_TIMEOUT_S = 1.0
"""How long a write waits for another program's lock, such as a backup's, before it fails."""
# How much room the disk must have for the file to count as ready: more than a chat writes.
_ROOM_BYTES = 256 * 1024
_HEADER = b"SQLite format 3\0"


class Lost(sqlite3.OperationalError):
    """The open file is not the one at the path any more, or what is there is damaged."""

    sqlite_errorcode = sqlite3.SQLITE_CORRUPT


class SqliteFile:
    """An open file, which only this process uses. In a transaction, it serves as `Statements`."""

    def __init__(
        self, path: Path, schema: str, scripts: Sequence[str], *, create: bool = True
    ) -> None:
        """Open it, and run the `scripts` that it has not had. Without `create`, it must exist
        and be whole. Raises `sqlite3.Error` or `OSError`, also if another process uses it."""
        if not create:
            with path.open("rb") as file:
                _check_whole(path, "PRAGMA quick_check(1)", header=file.read(len(_HEADER)))
        files.keep_private(path.parent, f"{path.stem}.*")
        with ExitStack() as on_failure:
            files.lock(path.with_suffix(".lock"), on_failure)
            # Kept open as long as the connections: closing any descriptor of a file releases all of
            # this process's locks on it, and then other programs believe that nobody uses it.
            self._fd = os.open(path, os.O_RDONLY | (os.O_CREAT if create else 0), 0o600)
            on_failure.callback(os.close, self._fd)
            self.writer = _connect(path, "rw", schema, on_failure)
            for setting in ("journal_mode = WAL", "synchronous = FULL", "secure_delete = ON"):
                self.writer.execute(f"PRAGMA {schema}.{setting}")
            _migrate(self.writer, schema, scripts)
            self.reader = _connect(path, "ro", schema, on_failure)
            # Searches run beside reads, in a thread.
            self._searcher = _connect(path, "ro", schema, on_failure)
            real = path.resolve()  # should it be a link, SQLite puts these beside the file itself
            self._log_file, self._index_file = Path(f"{real}-wal"), Path(f"{real}-shm")
            others = (self._log_file, self._index_file, path.with_suffix(".lock"))
            self._opened = {file: file.stat() for file in others} | {path: os.fstat(self._fd)}
            # From now on nothing may block the event loop.
            for connection in (self.writer, self.reader):
                connection.execute("PRAGMA busy_timeout = 0")
            on_failure.callback(self._opened.clear)
            self.close = on_failure.pop_all().close
        self.path, self._schema, self._scripts = path, schema, scripts
        self.ends_searches = False

    async def fetch(self, statement: str, *arguments: Any) -> list[Row]:
        return self.writer.execute(statement, named(arguments)).fetchall()

    async def fetchmany(self, statement: str, arguments: Sequence[Sequence[Any]]) -> list[Row]:
        return [row for each in arguments for row in await self.fetch(statement, *each)]

    def commit(self) -> None:
        self._check_present()
        self.writer.execute("COMMIT")
        # SQLite also writes to deleted files without an error.
        self._check_present()

    def search(self, statement: str, arguments: Sequence[Any], limit_s: float) -> list[Row]:
        """Runs in any thread, one at a time. Raises `TimedOut` after `limit_s`, or once
        `ends_searches` is true."""
        self._check_present()
        end = time.monotonic() + limit_s
        db = self._searcher
        db.set_progress_handler(lambda: self.ends_searches or time.monotonic() > end, 1000)
        try:
            return db.execute(statement, named(arguments)).fetchall()
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_INTERRUPT:
                raise
            raise TimedOut("The search was ended") from None

    def empty_log(self) -> None:
        """Remove deleted rows from the log (WAL), too; in the file itself they are overwritten.
        While somebody reads the log, it stays as it is."""
        try:
            # Unread rows would keep the statement open, and the next commit would fail.
            self.writer.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        except sqlite3.Error as error:
            # No failure of the deletion, nor of writes beside it: these are committed.
            log.warning("deleted texts stay in the log (WAL) until it can be emptied: %s", error)

    def reopen(self) -> Self:
        """Close it, and open what is at the path now. Raises `OSError` while no file is there: the
        file may only have been moved, and come back. Raises `Lost` while another program reads it,
        `sqlite3.Error` while what is there is damaged. If that is this file, though damaged,
        closing it writes the log (WAL) into it, which may mend it."""
        self.path.stat()
        self._take_log_away(waits_for_readers=True)
        self.close()
        return type(self)(self.path, self._schema, self._scripts, create=False)

    def end(self) -> None:
        """Close it for good."""
        try:
            self._take_log_away(waits_for_readers=False)
        except OSError as error:
            log.warning("the last writes of a database that was replaced are not saved: %s", error)
        self.close()

    def _take_log_away(self, *, waits_for_readers: bool) -> None:
        """If another file is at the path by now, such as a backup, SQLite would take our log, and
        its index, for that file's, and damage it. The log is kept unless our file has all of it."""
        if not self._opened or self._is_ours(self.path):
            return
        is_deleted, is_saved = os.fstat(self._fd).st_nlink == 0, False
        try:
            # Into our file, whatever its name is now: when closing one that was moved, SQLite
            # itself doesn't. While another program reads it, not all can be written.
            statement = f"PRAGMA {self._schema}.wal_checkpoint"
            busy, in_log, written = self.writer.execute(statement).fetchone()
        except sqlite3.Error as error:
            log.warning("the log can't be written into its own file: %s", error)
        else:
            is_saved = not is_deleted and not busy and in_log == written
            if waits_for_readers and not is_deleted and not is_saved:
                raise Lost("another program reads the file that was replaced")
        if not is_saved and self._is_ours(self._log_file):
            kept = self._log_file.rename(f"{self._log_file}.old-{time.time_ns()}")
            log.warning("the database was replaced; its last writes are in %s", kept)
        # A program that has the old file open would go on with these, and so would we. The index
        # may be here without its log, if that was moved or replaced together with the file.
        for file in (self._log_file, self._index_file):
            if self._is_ours(file):
                file.unlink()

    def check(self) -> None:
        """Raises `sqlite3.Error` if the file is damaged, `OSError` if the disk is full."""
        with TemporaryFile(dir=self.path.parent) as file:
            file.write(bytes(_ROOM_BYTES))
        # With a new connection, as open ones have the file's contents in their caches.
        _check_whole(self.path, header=os.pread(self._fd, len(_HEADER), 0))

    def _is_ours(self, file: Path) -> bool:
        try:
            return os.path.samestat(file.stat(), self._opened[file])
        except OSError:  # it is missing, or out of reach
            return False

    def _check_present(self) -> None:
        if not all(map(self._is_ours, self._opened)):
            raise Lost("its files were removed or replaced, or are out of reach")


def named(arguments: Sequence[Any]) -> dict[str, Any]:
    """For SQLite, `$1` is a parameter with the name 1."""
    return {str(n): argument for n, argument in enumerate(arguments, 1)}


def _uri(path: Path, mode: Literal["ro", "rw"]) -> str:
    """A URI with which opening a missing file is an error, instead of creating it."""
    return f"{path.absolute().as_uri()}?mode={mode}"


def _check_whole(path: Path, *checks: str, header: bytes) -> None:
    """Raises `Lost` if the file isn't whole. `header` is its own: the log may have another."""
    with closing(sqlite3.connect(_uri(path, "ro"), uri=True)) as db:
        tables = db.execute("SELECT name FROM sqlite_schema WHERE type = 'table'").fetchall()
        for (table,) in tables:
            db.execute(f'SELECT * FROM "{table}" LIMIT 1').fetchone()  # noqa: S608
        answers = [db.execute(check).fetchall() for check in checks]
        if header != _HEADER or not tables or any(rows != [("ok",)] for rows in answers):
            raise Lost("corrupt or empty")


def _connect(
    path: Path, mode: Literal["ro", "rw"], schema: str, exits: ExitStack
) -> sqlite3.Connection:
    db = sqlite3.connect(
        ":memory:", timeout=BUSY_TIMEOUT_S, detect_types=sqlite3.PARSE_DECLTYPES,
        isolation_level=None, check_same_thread=False, uri=True,
    )  # fmt: skip
    exits.callback(db.close)
    # Attached under the schema's name, so that tables have the same names as in PostgreSQL.
    db.execute(f"ATTACH ? AS {schema}", (_uri(path, mode),))
    # PostgreSQL's functions. SQLite's own `lower` knows only ASCII, and `str.lower` has two forms
    # for one letter: a Greek sigma depends on what follows it.
    db.create_function("lower", 1, str.casefold, deterministic=True)
    db.create_function("strpos", 2, lambda text, part: text.find(part) + 1, deterministic=True)
    return db


def _migrate(connection: sqlite3.Connection, schema: str, scripts: Sequence[str]) -> None:
    (version,) = connection.execute(f"PRAGMA {schema}.user_version").fetchone()
    if version > len(scripts):
        problem = f"its schema version {version} is newer than this program's {len(scripts)}"
        raise sqlite3.DatabaseError(problem)
    for number, script in enumerate(scripts[version:], version + 1):
        # Nothing of a script that fails stays, as the connection is then closed.
        done = f"PRAGMA {schema}.user_version = {number}"
        connection.executescript(f"BEGIN IMMEDIATE; {script}; {done}; COMMIT")
