"""A SQLite file that is moved, replaced or deleted during its use: what was acknowledged is in the
file that it was written to, and in no other."""

import asyncio
import shutil
import sqlite3
import sys
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, closing, contextmanager, suppress
from functools import partial
from pathlib import Path

import pytest

from daca_shared.domain import Unavailable
from daca_shared.service import running
from daca_shared.storage import files
from daca_shared.storage.sqlite import SqliteDatabase
from tests.unit.sqlite_files import add, numbers, opened, refuses


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "data" / "numbers.db"


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


async def opened_with_a_backup(path: Path, more: range = FEW) -> tuple[SqliteDatabase, Path]:
    """The backup has only the numbers `BEFORE`."""
    database = await opened(path)
    await fill(database, BEFORE)
    copy = backup(path)
    await fill(database, more)
    return database, copy


async def takes_the_backup(database: SqliteDatabase) -> None:
    with pytest.raises(Unavailable, match="replaced"):
        await database.check()
    await database.check()
    assert await numbers(database) == [*BEFORE]


def replace(path: Path, copy: Path) -> Path:
    """Returns the new path of the file that the copy replaces."""
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
    database, copy = await opened_with_a_backup(path, more)
    kept = replace(path, copy)
    if is_noticed:
        async with running(partial(read_on, database)):
            await asyncio.sleep(0)
            await takes_the_backup(database)
    await database.close()
    assert numbers_of_whole(path) == [*BEFORE]
    assert numbers_of_whole(kept) == [*BEFORE, *more]
    assert [*path.parent.glob("numbers.db-wal*")] == []


def move_to_another_disk(path: Path) -> Path:
    """As `mv` does: only files of one disk can be renamed."""
    kept = path.with_name("kept")
    shutil.copy2(path, kept)
    path.unlink()
    return kept


def log_put_aside(path: Path) -> Path:
    (log_file,) = path.parent.glob("numbers.db-wal.old-*")
    return log_file


async def test_the_log_of_a_file_that_went_to_another_disk_and_back_is_kept(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    database = await opened(path)
    await fill(database, BEFORE)
    await fill(database, FEW)
    kept = move_to_another_disk(path)
    await refuses(database, "removed|No such file")
    shutil.copy2(kept, path)
    await database.check()
    await database.close()
    assert log_put_aside(path).name in caplog.text
    assert numbers_of_whole(path) != [*BEFORE, *FEW]
    log_put_aside(path).rename(path.with_name("numbers.db-wal"))
    shutil.move(kept, path)
    assert numbers_of_whole(path) == [*BEFORE, *FEW]


async def test_a_backup_is_used_once_all_of_it_is_there(path: Path) -> None:
    database, copy = await opened_with_a_backup(path)
    move_to_another_disk(path)
    await refuses(database, "removed|No such file")
    with copy.open("rb") as whole, path.open("wb", 0) as file:
        while piece := whole.read(1_000_000):
            await refuses(database, "corrupt|malformed")
            file.write(piece)
    await database.check()
    assert await numbers(database) == [*BEFORE]
    await database.close()
    assert numbers_of_whole(path) == [*BEFORE]


async def test_logs_of_several_files_that_were_replaced_are_kept(path: Path) -> None:
    database, copy = await opened_with_a_backup(path)
    another = Path(shutil.copy(copy, path.with_name("another")))
    for replacing in (copy, another):
        shutil.move(replacing, path)
        await takes_the_backup(database)
        await fill(database, FEW)
    await database.close()
    assert len([*path.parent.glob("numbers.db-wal.old-*")]) == 2


def move(path: Path, to: Path) -> None:
    path.rename(to)


async def test_reopening_a_file_never_creates_it(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = await opened(path)
    await database.write(add(1))
    lock = files.lock

    def lock_what_goes_away(lock_file: Path, exits: ExitStack) -> None:
        """Move the database file away just before locking it, after it was found whole."""
        if path.exists():
            move(path, path.with_name("away"))
        lock(lock_file, exits)

    monkeypatch.setattr(files, "lock", lock_what_goes_away)
    kept = path.with_name("kept")
    move(path, kept)
    await refuses(database, "removed|No such file")
    move(kept, path)
    await refuses(database, "No such file|cantopen")
    monkeypatch.undo()
    await database.close()
    assert path not in path.parent.iterdir()
    assert numbers_of_whole(path.with_name("away")) == [1]


def link(path: Path, target: Path) -> None:
    path.symlink_to(target)


async def test_a_file_that_was_a_link_from_the_start_may_be_replaced(path: Path) -> None:
    elsewhere = path.with_name("elsewhere.db")
    await (await opened(elsewhere)).close()
    link(path, elsewhere)
    database, copy = await opened_with_a_backup(path)
    shutil.move(copy, path)
    await takes_the_backup(database)
    await database.close()
    assert numbers_of_whole(elsewhere) == [*BEFORE, *FEW]


@pytest.mark.parametrize("is_kept", [True, False])
async def test_a_backup_without_a_log_does_not_get_the_old_files_log(
    path: Path, *, is_kept: bool
) -> None:
    database = await opened(path)
    await fill(database, BEFORE)
    await database.close()
    copy = Path(shutil.copy(path, path.with_name("backup")))
    database = await opened(path)
    await fill(database, FEW)
    kept = path.with_name("kept")
    if is_kept:
        shutil.move(path, kept)
    shutil.move(copy, path)
    await takes_the_backup(database)
    await database.close()
    if is_kept:
        assert numbers_of_whole(kept) == [*BEFORE, *FEW]


@contextmanager
def in_the_way(path: Path) -> Iterator[None]:
    path.mkdir()
    yield
    path.rmdir()


async def test_a_log_whose_file_can_not_be_reached_is_put_aside_at_a_stop(path: Path) -> None:
    database = await opened(path)
    await fill(database, FEW)
    kept = move_to_another_disk(path)
    with in_the_way(path):
        await database.close()
    shutil.move(kept, path)
    log_put_aside(path).rename(path.with_name("numbers.db-wal"))
    assert numbers_of_whole(path) == [*FEW]


async def test_a_program_that_has_the_old_file_open_does_not_spoil_the_new_one(path: Path) -> None:
    larger = await opened(path.with_name("larger.db"))
    await fill(larger, BEFORE)
    copy = backup(path.with_name("larger.db"))
    await larger.close()
    database = await opened(path)
    await fill(database, FEW)
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        assert other.execute("SELECT count(*) FROM numbers").fetchone() == (len(FEW),)
        kept = replace(path, copy)
        with pytest.raises(Unavailable, match="replaced"):
            await database.check()
        await database.check()
        other.execute("DELETE FROM numbers")
        await database.write(add(999))
        assert await numbers(database) == [*BEFORE, 999]
    await database.close()
    assert numbers_of_whole(path) == [*BEFORE, 999]
    assert numbers_of_whole(kept) == [*FEW]


_SHELL = """
import sqlite3, sys
db = sqlite3.connect(sys.argv[1])
print(db.execute("SELECT count(*) FROM numbers").fetchone(), flush=True)
sys.stdin.read()
"""


@asynccontextmanager
async def open_in_another_program(path: Path) -> AsyncIterator[None]:
    shell = await asyncio.create_subprocess_exec(
        sys.executable, "-c", _SHELL, path, stdin=PIPE, stdout=PIPE
    )
    assert shell.stdin
    assert shell.stdout
    assert await shell.stdout.readline()
    try:
        yield
    finally:
        shell.stdin.close()
        await shell.wait()


def with_log(path: Path) -> tuple[Path, Path]:
    return path, path.with_name(f"{path.name}-wal")


async def backup_with_log(path: Path, numbers: range) -> tuple[Path, Path]:
    """A copy of another database with its log, made while it is in use."""
    other = path.with_name("other.db")
    database = await opened(other)
    await fill(database, numbers)
    copies = with_log(path.with_name("copy"))
    for file, copy in zip(with_log(other), copies, strict=True):
        shutil.copy(file, copy)
    await database.close()
    return copies


def replace_with_log(path: Path, copies: tuple[Path, Path]) -> Path:
    """Returns the new path of the file that the copies replace."""
    kept = with_log(path.with_name("kept"))
    for file, copy, old in zip(with_log(path), copies, kept, strict=True):
        move(file, old)
        move(copy, file)
    return kept[0]


async def test_a_backup_keeps_its_log_while_another_program_has_the_old_file_open(
    path: Path,
) -> None:
    copies = await backup_with_log(path, MANY)
    database = await opened(path)
    await fill(database, FEW)
    async with open_in_another_program(path):
        kept = replace_with_log(path, copies)
        with pytest.raises(Unavailable, match="replaced"):
            await database.check()
        await database.check()
        assert await numbers(database) == [*MANY]
    await database.close()
    assert numbers_of_whole(path) == [*MANY]
    assert numbers_of_whole(kept) == [*FEW]


async def test_a_damaged_backup_is_refused_although_its_log_has_all_of_it(path: Path) -> None:
    copies = await backup_with_log(path, FEW)
    copies[0].write_bytes(bytes(16) + copies[0].read_bytes()[16:])
    database = await opened(path)
    replace_with_log(path, copies)
    await refuses(database, "replaced|corrupt")
    await database.close()


async def test_a_search_does_not_open_a_file_that_has_replaced_ours(path: Path) -> None:
    database, copy = await opened_with_a_backup(path)
    replace(path, copy)
    with pytest.raises(Unavailable):
        await database.search("eve", "SELECT n FROM test.numbers")
    await database.check()
    assert len(await database.search("eve", "SELECT n FROM test.numbers")) == len(BEFORE)
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
    else:
        log_put_aside(path).rename(path.with_name("kept-wal"))
    assert numbers_of_whole(path) == [*BEFORE]
    assert numbers_of_whole(kept) == [*BEFORE, *FEW]
