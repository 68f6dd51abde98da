"""What a database must do in tests of lost, damaged and full files."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from daca_shared.domain import Unavailable
from daca_shared.storage.database import Statements, Work
from daca_shared.storage.sqlite import SqliteDatabase

TABLES = "CREATE TABLE test.numbers (n INTEGER PRIMARY KEY, text TEXT);"


async def opened(path: Path) -> SqliteDatabase:
    return await SqliteDatabase.open(path, "test", [TABLES])


def add(n: int) -> Work[None]:
    async def work(statements: Statements) -> None:
        await statements.fetch("INSERT INTO test.numbers VALUES ($1, $2)", n, "x" * 10_000)

    return work


async def numbers(database: SqliteDatabase) -> list[int]:
    return [n for (n,) in await database.read("SELECT n FROM test.numbers ORDER BY n")]


async def refuses(database: SqliteDatabase, words: str) -> None:
    """Check that it keeps failing with these words."""
    for _ in range(3):
        with pytest.raises(Unavailable, match=words):
            await database.check()


async def works(database: SqliteDatabase, path: Path) -> None:
    """Check that it works again, with all acknowledged data, in the current file."""
    await database.check()
    await database.write(add(9))
    assert {1, 9} <= set(await numbers(database))
    with closing(sqlite3.connect(path)) as file:
        assert {(1,), (9,)} <= set(file.execute("SELECT n FROM numbers"))
