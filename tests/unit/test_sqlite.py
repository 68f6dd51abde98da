import asyncio
import sqlite3
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from daca_shared.domain import Unavailable
from daca_shared.storage.sqlite import SqliteDatabase


def create(db: sqlite3.Connection) -> None:
    db.execute("CREATE TABLE numbers (n INTEGER PRIMARY KEY)")


def add(n: int) -> Callable[[sqlite3.Connection], Any]:
    def work(db: sqlite3.Connection) -> int:
        db.execute("INSERT INTO numbers VALUES (?)", (n,))
        return n

    return work


def fail(db: sqlite3.Connection) -> None:
    db.execute("INSERT INTO numbers VALUES (-1)")
    raise ValueError("a bug")


def numbers(db: sqlite3.Connection) -> list[int]:
    return [n for (n,) in db.execute("SELECT n FROM numbers ORDER BY n")]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "deep" / "numbers.db"


@pytest.fixture
async def database(path: Path) -> AsyncIterator[SqliteDatabase]:
    database = await SqliteDatabase.open(path, [create])
    yield database
    await database.close()


async def test_writes_at_the_same_time_share_a_commit(database: SqliteDatabase) -> None:
    statements: list[str] = []
    await database.write(lambda db: db.set_trace_callback(statements.append))
    statements.clear()
    assert await asyncio.gather(*(database.write(add(n)) for n in range(50))) == [*range(50)]
    assert statements.count("COMMIT") == 1
    assert await database.read(numbers) == [*range(50)]


async def test_a_bad_write_fails_alone_in_its_group(database: SqliteDatabase) -> None:
    await database.write(add(3))
    writes = [database.write(add(n)) for n in range(6)]
    outcomes = await asyncio.gather(*writes, database.write(fail), return_exceptions=True)
    assert isinstance(outcomes[3], Unavailable)
    assert isinstance(outcomes[6], ValueError)
    assert [o for o in outcomes if not isinstance(o, Exception)] == [0, 1, 2, 4, 5]
    assert await database.read(numbers) == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize("under_way", [True, False])
async def test_a_cancelled_write_leaves_the_others_alone(
    database: SqliteDatabase, under_way: bool
) -> None:
    def slow(db: sqlite3.Connection) -> None:
        time.sleep(0.1)

    first = asyncio.create_task(database.write(slow if under_way else add(100)))
    writes = [asyncio.create_task(database.write(add(n))) for n in range(3)]
    await asyncio.sleep(0.02 if under_way else 0)
    writes[1].cancel()
    if under_way:
        first.cancel()
    outcomes = await asyncio.gather(*writes, return_exceptions=True)
    assert outcomes[::2] == [0, 2]
    assert isinstance(outcomes[1], asyncio.CancelledError)
    assert {0, 2} <= set(await database.read(numbers))
    assert await database.write(add(4)) == 4


async def test_migrations_run_once_and_in_order(path: Path) -> None:
    for migrations in ([create], [create, add(1)], [create, add(1)], [create, add(1), add(2)]):
        await (await SqliteDatabase.open(path, migrations)).close()
    database = await SqliteDatabase.open(path, [create, add(1), add(2)])
    assert await database.read(numbers) == [1, 2]
    await database.close()


async def test_a_failed_migration_leaves_the_file_as_it_was(path: Path) -> None:
    await (await SqliteDatabase.open(path, [create])).close()
    with pytest.raises(Unavailable):
        await SqliteDatabase.open(path, [create, add(1), add(1)])
    database = await SqliteDatabase.open(path, [create])
    assert await database.read(numbers) == []
    await database.close()


async def test_a_newer_schema_is_refused_and_its_file_let_go_of(path: Path) -> None:
    await (await SqliteDatabase.open(path, [create, add(1)])).close()
    with pytest.raises(Unavailable, match="newer"):
        await SqliteDatabase.open(path, [create])
    # SQLite removes it with the last connection.
    assert not path.with_name(f"{path.name}-wal").exists()


async def test_a_commit_survives_power_loss(database: SqliteDatabase) -> None:
    def pragmas(db: sqlite3.Connection) -> tuple[str, int]:
        (mode,) = db.execute("PRAGMA journal_mode").fetchone()
        (synchronous,) = db.execute("PRAGMA synchronous").fetchone()
        return mode, synchronous

    assert await database.write(pragmas) == ("wal", 2)


async def test_reads_cannot_write(database: SqliteDatabase) -> None:
    with pytest.raises(Unavailable):
        await database.read(add(1))


async def test_a_locked_file_is_unavailable_until_it_is_free(
    database: SqliteDatabase, path: Path
) -> None:
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    started = time.monotonic()
    outcomes = await asyncio.gather(
        *(database.write(add(n)) for n in range(3)), return_exceptions=True
    )
    assert [type(outcome) for outcome in outcomes] == [Unavailable] * 3
    assert time.monotonic() - started < 1.6
    assert await database.read(numbers) == []
    other.execute("ROLLBACK")
    other.close()
    assert await database.write(add(9)) == 9


async def test_errors_do_not_tell_callers_about_sqlite(database: SqliteDatabase) -> None:
    with pytest.raises(Unavailable) as failure:
        await database.read(lambda db: db.execute("SELECT * FROM no_such_table"))
    assert "no_such_table" not in str(failure.value)


async def test_closing_finishes_writes_under_way(path: Path) -> None:
    database = await SqliteDatabase.open(path, [create])
    writes = [asyncio.create_task(database.write(add(n))) for n in range(500)]
    await asyncio.sleep(0)
    await database.close()
    assert await asyncio.gather(*writes) == [*range(500)]
    database = await SqliteDatabase.open(path, [create])
    assert await database.read(numbers) == [*range(500)]
    await database.close()
