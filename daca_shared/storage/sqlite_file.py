"""A SQLite file: how it is opened, and whether what is open is still there and in order."""

import errno
import fcntl
import os
import sqlite3
from collections.abc import Sequence
from contextlib import ExitStack, closing, suppress
from pathlib import Path
from tempfile import TemporaryFile

BUSY_TIMEOUT_S = 1.0
"""How long a write waits for another program's lock, a backup's say, before it fails."""

# More than a chat writes at once.
_ROOM_BYTES = 256 * 1024
_DAMAGED = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
_FULL, _DENIED = "has no room left on its disk", "can't be written"
_GONE = "was removed or replaced"
_WORDS = dict.fromkeys(_DAMAGED, "is damaged") | {
    sqlite3.SQLITE_FULL: _FULL,
    sqlite3.SQLITE_CANTOPEN: _GONE,
    sqlite3.SQLITE_READONLY: _DENIED,
    sqlite3.SQLITE_PERM: _DENIED,
    sqlite3.SQLITE_BUSY: "is held by another program",
    sqlite3.SQLITE_IOERR: "is on a disk that fails",
}
_WORDS_OF_SYSTEM = {errno.ENOSPC: _FULL, errno.EDQUOT: _FULL} | dict.fromkeys(
    (errno.EROFS, errno.EACCES, errno.EPERM), _DENIED
)


class Replaced(sqlite3.OperationalError):
    """What is open is not what is at the path: whatever is written there is lost."""

    sqlite_errorcode = sqlite3.SQLITE_CANTOPEN


class Damaged(sqlite3.DatabaseError):
    """SQLite's own check has found something."""

    sqlite_errorcode = sqlite3.SQLITE_CORRUPT


class SqliteFile:
    """A file that is open for this process alone."""

    def __init__(self, path: Path, schema: str, scripts: Sequence[str]) -> None:
        """Open or create it, and run the `scripts` that it has not had. Raises `sqlite3.Error` or
        `OSError`, also if another process uses it."""
        self.path = path
        with ExitStack() as on_failure:
            on_failure.callback(os.close, _lock(path.with_suffix(".lock")))
            self.writer = on_failure.enter_context(closing(_connect(path, schema)))
            self.writer.execute(f"PRAGMA {schema}.journal_mode = WAL")
            self.writer.execute(f"PRAGMA {schema}.synchronous = FULL")
            _migrate(self.writer, schema, scripts)
            self.reader = on_failure.enter_context(closing(_connect(path, schema)))
            self.reader.execute("PRAGMA query_only = ON")
            # From now on nothing may hold up the event loop.
            for connection in (self.writer, self.reader):
                connection.execute("PRAGMA busy_timeout = 0")
            self.close = on_failure.pop_all().close
        beside = (path.with_name(path.name + end) for end in ("-wal", "-shm"))
        files = (path, *beside, path.with_suffix(".lock"))
        self._identities = {file: _identity(file) for file in files}

    def check_present(self) -> None:
        """Raises `Replaced`, or `OSError` if it can't be known."""
        for path, identity in self._identities.items():
            if _identity(path) != identity:
                raise Replaced(f"{path} {_GONE}")

    def check(self) -> None:
        """Raises `sqlite3.Error` or `OSError`."""
        self.check_present()
        with TemporaryFile(dir=self.path.parent) as file:
            file.write(bytes(_ROOM_BYTES))
            file.flush()
        check_tables(self.path)

    @property
    def is_busy(self) -> bool:
        """Whether a transaction is under way."""
        with suppress(sqlite3.ProgrammingError):
            return self.writer.in_transaction
        return False  # it is closed


def check_content(path: Path) -> None:
    """Raises `sqlite3.Error` unless all pages are in order, and not just as a new file's are."""
    with closing(_read_only(path)) as database:
        ((said,),) = database.execute("PRAGMA quick_check(1)")
        ((version,),) = database.execute("PRAGMA user_version")
    if said != "ok" or not version:
        raise Damaged(f"{path} is damaged, or is none of ours: {said}")


def check_tables(path: Path) -> None:
    """Raises `sqlite3.Error` unless each table can be read, at least where it begins."""
    with closing(_read_only(path)) as database:
        tables = database.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")
        for (table,) in tables.fetchall():
            database.execute(f'SELECT * FROM "{table}" LIMIT 1').fetchone()  # noqa: S608


def _read_only(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)


def must_reopen(error: Exception) -> bool:
    """Whether the file has to be opened anew, once a good one is there."""
    return isinstance(error, Replaced) or _code(error) in _DAMAGED


def what_is_wrong(error: Exception) -> str:
    """In words for whoever has to mend it. A stranger may read them, so they have no path."""
    if isinstance(error, OSError):
        words = _WORDS_OF_SYSTEM.get(error.errno or 0, "can't be reached")
    else:
        words = _WORDS.get(_code(error), "can't be used")
    return f"the database {words}"


def _code(error: Exception) -> int:
    return int(getattr(error, "sqlite_errorcode", 0)) & 0xFF


def _identity(path: Path) -> tuple[int, int] | None:
    with suppress(FileNotFoundError, NotADirectoryError):
        found = path.stat()
        return found.st_dev, found.st_ino
    return None


def _connect(path: Path, schema: str) -> sqlite3.Connection:
    # Attached, so that tables have the same names as in PostgreSQL's schema.
    connection = sqlite3.connect(
        ":memory:", timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False
    )
    connection.execute(f"ATTACH ? AS {schema}", (str(path),))
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
