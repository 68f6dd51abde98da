"""A SQLite file that is lost, damaged or inaccessible: errors say so, nothing is acknowledged
without being stored, and work resumes by itself once it is repaired."""

import errno
import os
import shutil
import sqlite3
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import closing
from pathlib import Path

import pytest

from daca_shared.domain import Unavailable
from daca_shared.storage.sqlite import SqliteDatabase, what_is_wrong
from tests.commands import output_of
from tests.unit.sqlite_files import add, opened, refuses, works


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "data" / "numbers.db"


@pytest.fixture
async def database(path: Path) -> AsyncIterator[SqliteDatabase]:
    database = await opened(path)
    await database.write(add(1))
    yield database
    await database.close()


async def test_checking_a_good_file_leaves_no_files(database: SqliteDatabase, path: Path) -> None:
    files = sorted(path.parent.iterdir())
    for _ in range(3):
        await database.check()
    assert sorted(path.parent.iterdir()) == files
    await works(database, path)


_READ = """
import sqlite3, sys
db = sqlite3.connect(sys.argv[1])
print(db.execute("SELECT count(*) FROM numbers").fetchone())
db.close()
"""


async def test_another_program_that_reads_the_file_removes_nothing(
    database: SqliteDatabase, path: Path
) -> None:
    """If our locks were lost, its close would be the last one, and remove the WAL."""
    await database.check()
    assert await output_of(sys.executable, "-c", _READ, path) == "(1,)\n"
    await works(database, path)


def away(path: Path) -> Path:
    return path.parent.with_name("away")


def bring_back(path: Path) -> None:
    away(path).rename(path.parent)


def restore_a_copy(path: Path) -> None:
    """The copy includes the WAL, with what came after the last checkpoint."""
    shutil.copytree(away(path), path.parent)


@pytest.mark.parametrize("mend", [bring_back, restore_a_copy])
async def test_a_missing_folder_is_reported_until_it_is_back(
    database: SqliteDatabase, path: Path, mend: Callable[[Path], None]
) -> None:
    path.parent.rename(away(path))
    with pytest.raises(Unavailable, match="try again later"):
        await database.write(add(2))
    await refuses(database, "removed|No such file")
    path.parent.mkdir()
    await refuses(database, "removed|No such file")
    with pytest.raises(Unavailable, match="try again later"):
        await database.search("eve", "SELECT n FROM test.numbers")
    assert [*path.parent.iterdir()] == []
    path.parent.rmdir()
    mend(path)
    await works(database, path)


@pytest.mark.parametrize("suffix", [".db", ".db-wal", ".db-shm", ".lock"])
async def test_each_missing_file_is_noticed(
    database: SqliteDatabase, path: Path, suffix: str
) -> None:
    file = path.with_name(f"numbers{suffix}")
    kept = file.rename(path.with_name("kept"))
    with pytest.raises(Unavailable, match="try again later"):
        await database.write(add(2))
    if suffix == ".db":
        await refuses(database, "removed|No such file")
        kept.rename(file)
    # Without the other files it works on, as SQLite recreates them from its open ones.
    await works(database, path)


def overwrite(path: Path, first: int, last: int | None) -> None:
    """Overwrite pages of the main file in place."""
    with path.open("r+b") as file:
        size = path.stat().st_size
        file.seek(first * 4096)
        file.write(os.urandom((last or size // 4096) * 4096 - file.tell()))


@pytest.fixture
async def good(path: Path) -> Path:
    """A copy of the database that will be at the path."""
    database = await opened(path)
    for n in range(1, 9):
        await database.write(add(n))
    await database.close()
    return Path(shutil.copy(path, path.with_name("good")))


async def is_mended_by(good: Path, database: SqliteDatabase, path: Path) -> None:
    shutil.copyfile(good, path)
    await works(database, path)
    await database.close()


@pytest.mark.parametrize("last", [1, None])
@pytest.mark.parametrize("mend", [shutil.move, shutil.copyfile])
async def test_a_damaged_file_is_reported_until_it_is_replaced(
    good: Path, path: Path, last: int | None, mend: Callable[[Path, Path], object]
) -> None:
    database = await opened(path)
    overwrite(path, 0, last)
    await refuses(database, "corrupt|notadb")
    mend(good, path)
    await works(database, path)
    await database.close()


async def test_damage_to_pages_that_the_wal_also_has_is_repaired(
    database: SqliteDatabase, path: Path
) -> None:
    overwrite(path, 0, None)
    with pytest.raises(Unavailable, match="corrupt"):
        await database.check()
    await works(database, path)


async def test_damage_to_a_table_is_noticed_before_a_statement_hits_it(
    good: Path, path: Path
) -> None:
    database = await opened(path)
    overwrite(path, 1, 2)  # its first page; the one before has the schema
    await refuses(database, "corrupt")
    await is_mended_by(good, database, path)


async def test_another_file_without_tables_is_not_taken_for_ours(good: Path, path: Path) -> None:
    database = await opened(path)
    with closing(sqlite3.connect(path.with_name("other"), isolation_level=None)) as file:
        file.execute("PRAGMA user_version = 1")
    path.with_name("other").replace(path)
    await refuses(database, "replaced|corrupt or empty")
    await is_mended_by(good, database, path)


async def test_a_deletion_that_can_not_be_completed_says_so(
    database: SqliteDatabase, path: Path
) -> None:
    path.parent.rename(away(path))
    with pytest.raises(Unavailable, match="try again later"):
        await database.purge()


def test_a_problem_without_a_number_is_told_in_its_own_words() -> None:
    assert what_is_wrong(OSError("process 7 uses this data folder")).startswith("process 7")
    assert what_is_wrong(OSError(errno.ENOSPC, "at /a/path")) == os.strerror(errno.ENOSPC)


async def test_damage_that_only_a_statement_hits_is_reported_too(good: Path, path: Path) -> None:
    database = await opened(path)
    overwrite(path, 10, 20)
    await database.check()
    with pytest.raises(Unavailable, match="try again later"):
        await database.read("SELECT sum(length(text)) FROM test.numbers")
    await refuses(database, "corrupt|notadb")
    await is_mended_by(good, database, path)


async def test_a_locked_file_is_reported_until_it_is_free(
    database: SqliteDatabase, path: Path
) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(Unavailable, match="busy"):
            await database.check()
    await works(database, path)
