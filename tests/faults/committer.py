"""A child process that writes to a database for ever, and tells what it was promised."""

import asyncio
import os
import sqlite3
import sys
from collections.abc import Iterator
from functools import partial
from itertools import count
from pathlib import Path

from daca_shared.storage.sqlite import SqliteDatabase


def _create(db: sqlite3.Connection) -> None:
    db.execute("CREATE TABLE numbers (number INTEGER PRIMARY KEY, ballast BLOB NOT NULL) STRICT")


def _insert(db: sqlite3.Connection, *, number: int) -> None:
    db.execute("INSERT INTO numbers VALUES (?, ?)", (number, bytes(500)))


async def _write(database: SqliteDatabase, numbers: Iterator[int]) -> None:
    for number in numbers:
        await database.write(partial(_insert, number=number))
        # One write a line, at once: a line that was begun is whole.
        os.write(sys.stdout.fileno(), b"%d\n" % number)


async def _main(path: Path, first: int) -> None:
    database = await SqliteDatabase.open(path, [_create])
    numbers = count(first)
    await asyncio.gather(*(_write(database, numbers) for _ in range(8)))


if __name__ == "__main__":
    asyncio.run(_main(Path(sys.argv[1]), int(sys.argv[2])))
