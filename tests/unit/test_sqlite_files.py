"""A SQLite file that is lost, damaged or out of reach: it is told, nothing is acknowledged that is
not kept, and all goes on by itself once it is mended."""

import os
import shutil
import sqlite3
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager, suppress
from pathlib import Path

import pytest

from daca_shared.domain import Unavailable
from daca_shared.storage.database import Statements, Work
from daca_shared.storage.sqlite import SqliteDatabase

TABLES = "CREATE TABLE test.numbers (n INTEGER PRIMARY KEY, text TEXT);"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "data" / "numbers.db"


@pytest.fixture
async def database(path: Path) -> AsyncIterator[SqliteDatabase]:
    database = await SqliteDatabase.open(path, "test", [TABLES])
    await database.write(add(1))
    yield database
    await database.close()


def add(n: int) -> Work[None]:
    async def work(statements: Statements) -> None:
        await statements.fetch("INSERT INTO test.numbers VALUES ($1, $2)", n, "x" * 10_000)

    return work


async def numbers(database: SqliteDatabase) -> list[int]:
    return [n for (n,) in await database.read("SELECT n FROM test.numbers ORDER BY n")]


async def refuses(database: SqliteDatabase, words: str) -> None:
    """It says what is wrong, again and again."""
    for _ in range(3):
        with pytest.raises(Unavailable, match=words):
            await database.check()


async def works(database: SqliteDatabase, path: Path) -> None:
    """It goes on with what was acknowledged, in the file that is there."""
    await database.check()
    await database.write(add(9))
    assert {1, 9} <= set(await numbers(database))
    with closing(sqlite3.connect(path)) as file:
        assert {(1,), (9,)} <= set(file.execute("SELECT n FROM numbers"))


async def test_a_look_at_a_good_file_leaves_nothing(database: SqliteDatabase, path: Path) -> None:
    files = sorted(path.parent.iterdir())
    for _ in range(3):
        await database.check()
    assert sorted(path.parent.iterdir()) == files
    await works(database, path)


def away(path: Path) -> Path:
    return path.parent.with_name("away")


def bring_back(path: Path) -> None:
    away(path).rename(path.parent)


def restore_a_copy(path: Path) -> None:
    """With what came after the last checkpoint in a file beside it."""
    shutil.copytree(away(path), path.parent)


@pytest.mark.parametrize("mend", [bring_back, restore_a_copy])
async def test_a_folder_that_is_gone_is_told_until_it_is_back(
    database: SqliteDatabase, path: Path, mend: Callable[[Path], None]
) -> None:
    path.parent.rename(away(path))
    with pytest.raises(Unavailable, match="try again later"):
        await database.write(add(2))
    await refuses(database, "removed|No such file")
    path.parent.mkdir()
    await refuses(database, "removed|No such file")
    assert [*path.parent.iterdir()] == []
    path.parent.rmdir()
    mend(path)
    await works(database, path)


@pytest.mark.parametrize("suffix", [".db", ".db-wal", ".db-shm", ".lock"])
async def test_each_of_its_files_is_missed(
    database: SqliteDatabase, path: Path, suffix: str
) -> None:
    file = path.with_name(f"numbers{suffix}")
    kept = file.rename(path.with_name("kept"))
    with pytest.raises(Unavailable, match="try again later"):
        await database.write(add(2))
    if suffix == ".db":
        await refuses(database, "removed|No such file")
        kept.rename(file)
    # Without the others it goes on: SQLite makes them again of what it has open.
    await works(database, path)


def overwrite(path: Path, first: int, last: int | None) -> None:
    """Pages of the main file, in place."""
    with path.open("r+b") as file:
        size = path.stat().st_size
        file.seek(first * 4096)
        file.write(os.urandom((last or size // 4096) * 4096 - file.tell()))


@pytest.fixture
async def good(path: Path) -> Path:
    """A copy of what will be at the path."""
    database = await SqliteDatabase.open(path, "test", [TABLES])
    for n in range(1, 9):
        await database.write(add(n))
    await database.close()
    return Path(shutil.copy(path, path.with_name("good")))


@pytest.mark.parametrize("last", [1, None])
@pytest.mark.parametrize("mend", [shutil.move, shutil.copyfile])
async def test_a_damaged_file_is_told_until_a_good_one_is_in_its_place(
    good: Path, path: Path, last: int | None, mend: Callable[[Path, Path], object]
) -> None:
    database = await SqliteDatabase.open(path, "test", [TABLES])
    overwrite(path, 0, last)
    await refuses(database, "corrupt|notadb")
    mend(good, path)
    await works(database, path)
    await database.close()


async def test_damage_to_what_is_also_known_beside_the_file_is_mended(
    database: SqliteDatabase, path: Path
) -> None:
    overwrite(path, 0, None)
    with pytest.raises(Unavailable, match="corrupt"):
        await database.check()
    await works(database, path)


async def test_damage_that_only_a_statement_meets_is_told_too(good: Path, path: Path) -> None:
    database = await SqliteDatabase.open(path, "test", [TABLES])
    overwrite(path, 10, 20)
    await database.check()
    with pytest.raises(Unavailable, match="try again later"):
        await database.read("SELECT sum(length(text)) FROM test.numbers")
    await refuses(database, "corrupt|notadb")
    shutil.copyfile(good, path)
    await works(database, path)
    await database.close()


@contextmanager
def full(folder: Path) -> Iterator[None]:
    with suppress(OSError), (folder / "ballast").open("wb", buffering=0) as ballast:
        while True:
            ballast.write(bytes(4096))
    yield
    (folder / "ballast").unlink()


@contextmanager
def read_only(folder: Path) -> Iterator[None]:
    subprocess.run(["mount", "--bind", folder, folder], check=True)
    subprocess.run(["mount", "-o", "remount,bind,ro", folder], check=True)
    yield
    subprocess.run(["umount", folder], check=True)


@contextmanager
def denied(folder: Path) -> Iterator[None]:
    """To whom is not root."""
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.fixture
def small_disk(path: Path) -> Iterator[Path]:
    path.parent.mkdir(mode=0o700)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", path.parent], check=True)
    path.parent.chmod(0o700)
    yield path.parent
    subprocess.run(["umount", "--lazy", path.parent], check=True)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount: disks are NOT tested")
@pytest.mark.parametrize(
    ("harm", "words"),
    [
        (full, "No space left"),
        (read_only, "Read-only|cantopen"),
        (denied, "denied|out of reach|cantopen"),
    ],
)
async def test_a_disk_that_takes_nothing_is_told_until_it_does(
    small_disk: Path, path: Path, harm: Callable[[Path], AbstractContextManager[None]], words: str
) -> None:
    database = await SqliteDatabase.open(path, "test", [TABLES])
    await database.write(add(1))
    with harm(small_disk):
        await refuses(database, words)
    await works(database, path)
    await database.close()


async def test_a_file_that_another_program_holds_is_told_until_it_is_free(
    database: SqliteDatabase, path: Path
) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(Unavailable, match="busy"):
            await database.check()
    await works(database, path)
