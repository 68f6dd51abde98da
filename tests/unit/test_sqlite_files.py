"""A SQLite file that is lost, damaged or inaccessible: errors say so, nothing is acknowledged
without being stored, and work resumes by itself once it is repaired."""

import asyncio
import os
import shutil
import sqlite3
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import closing, suppress
from functools import partial
from pathlib import Path

import pytest

from daca_shared.domain import Unavailable
from daca_shared.service import running
from daca_shared.storage.sqlite import SqliteDatabase
from tests.commands import output_of
from tests.unit.sqlite_files import add, numbers, opened, refuses, works


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
        await database.search("SELECT n FROM test.numbers")
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


BEFORE, FEW, MANY = range(400), range(400, 420), range(400, 900)


async def fill(database: SqliteDatabase, more: range) -> None:
    """Write more than SQLite keeps in its log (WAL), which it then begins again."""
    await asyncio.gather(*(database.write(add(n)) for n in more))


def backup(path: Path) -> Path:
    """A copy, made as SQLite's documentation says, while the file is in use."""
    copy = path.with_name("backup")
    with closing(sqlite3.connect(path)) as ours, closing(sqlite3.connect(copy)) as theirs:
        ours.backup(theirs)
    return copy


async def read_on(database: SqliteDatabase) -> None:
    while True:
        with suppress(Unavailable):
            await database.read("SELECT * FROM test.numbers")
        await asyncio.sleep(0)


def replace(path: Path, copy: Path) -> Path:
    """Returns where the file is now that was there."""
    kept = path.rename(path.with_name("kept"))
    copy.rename(path)
    return kept


def numbers_of_whole(path: Path) -> list[int]:
    """What is in a file that must not be damaged."""
    with closing(sqlite3.connect(path)) as db:
        assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        return [n for (n,) in db.execute("SELECT n FROM numbers ORDER BY n")]


@pytest.mark.parametrize("more", [FEW, MANY])
@pytest.mark.parametrize("is_noticed", [True, False])
async def test_a_backup_that_replaces_the_file_does_not_get_its_log(
    path: Path, more: range, *, is_noticed: bool
) -> None:
    database = await opened(path)
    await fill(database, BEFORE)
    copy = backup(path)
    await fill(database, more)
    kept = replace(path, copy)
    if is_noticed:
        async with running(partial(read_on, database)):
            await asyncio.sleep(0)
            with pytest.raises(Unavailable, match="replaced"):
                await database.check()
            await database.check()
        assert await numbers(database) == [*BEFORE]
    await database.close()
    assert numbers_of_whole(path) == [*BEFORE]
    assert numbers_of_whole(kept) == [*BEFORE, *more]


def move_to_another_disk(path: Path) -> Path:
    """As `mv` does: only files of one disk can be renamed."""
    kept = path.with_name("kept")
    shutil.copy2(path, kept)
    path.unlink()
    return kept


async def test_a_file_that_was_moved_to_another_disk_and_back_has_its_log_again(path: Path) -> None:
    database = await opened(path)
    await fill(database, BEFORE)
    await fill(database, FEW)
    kept = move_to_another_disk(path)
    await refuses(database, "removed|No such file")
    shutil.copy2(kept, path)
    await database.check()
    assert await numbers(database) == [*BEFORE, *FEW]
    await database.close()
    assert numbers_of_whole(path) == [*BEFORE, *FEW]


async def test_a_backup_does_not_get_the_log_of_a_deleted_file(path: Path) -> None:
    database = await opened(path)
    await fill(database, BEFORE)
    copy = backup(path)
    await fill(database, FEW)
    move_to_another_disk(path)
    await refuses(database, "removed|No such file")
    shutil.copy2(copy, path)
    await database.check()
    assert await numbers(database) == [*BEFORE]
    await database.close()
    assert numbers_of_whole(path) == [*BEFORE]


async def test_a_search_does_not_open_a_file_that_has_replaced_ours(path: Path) -> None:
    database = await opened(path)
    await fill(database, BEFORE)
    copy = backup(path)
    await fill(database, FEW)
    replace(path, copy)
    with pytest.raises(Unavailable):
        await database.search("SELECT n FROM test.numbers")
    await database.check()
    assert len(await database.search("SELECT n FROM test.numbers")) == len(BEFORE)
    await database.close()


@pytest.mark.parametrize("is_noticed", [True, False])
async def test_a_backup_does_not_get_the_log_while_another_program_reads_the_old_file(
    path: Path, *, is_noticed: bool
) -> None:
    database = await opened(path)
    await fill(database, BEFORE)
    copy = backup(path)
    with closing(sqlite3.connect(path, isolation_level=None)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT * FROM numbers").fetchall()
        await fill(database, FEW)
        kept = replace(path, copy)
        if is_noticed:
            for told in ("replaced", "another program reads"):
                with pytest.raises(Unavailable, match=told):
                    await database.check()
        else:
            await database.close()
    if is_noticed:
        await database.check()
        await database.close()
    assert numbers_of_whole(path) == [*BEFORE]
    if is_noticed:
        assert numbers_of_whole(kept) == [*BEFORE, *FEW]


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


async def test_damage_that_only_a_statement_hits_is_reported_too(good: Path, path: Path) -> None:
    database = await opened(path)
    overwrite(path, 10, 20)
    await database.check()
    with pytest.raises(Unavailable, match="try again later"):
        await database.read("SELECT sum(length(text)) FROM test.numbers")
    await refuses(database, "corrupt|notadb")
    shutil.copyfile(good, path)
    await works(database, path)
    await database.close()


async def test_a_locked_file_is_reported_until_it_is_free(
    database: SqliteDatabase, path: Path
) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(Unavailable, match="busy"):
            await database.check()
    await works(database, path)
