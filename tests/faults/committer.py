"""A child process that writes to a database forever, and prints each acknowledged write."""

import asyncio
import os
import sys
from collections.abc import Iterator
from itertools import count
from pathlib import Path

from daca_shared.storage.database import Statements
from daca_shared.storage.sqlite import SqliteDatabase

_CREATE = "CREATE TABLE test.numbers (number INTEGER PRIMARY KEY, ballast TEXT NOT NULL) STRICT;"
_INSERT = "INSERT INTO test.numbers VALUES ($1, $2)"


async def _write(database: SqliteDatabase, numbers: Iterator[int]) -> None:
    for number in numbers:

        async def insert(statements: Statements, number: int = number) -> None:
            await statements.fetch(_INSERT, number, "x" * 500)

        await database.write(insert)
        # One system call per line, so that no line is cut off.
        os.write(sys.stdout.fileno(), b"%d\n" % number)


async def _main(path: Path, first: int) -> None:
    database = await SqliteDatabase.open(path, "test", [_CREATE])
    numbers = count(first)
    await asyncio.gather(*(_write(database, numbers) for _ in range(8)))


if __name__ == "__main__":
    asyncio.run(_main(Path(sys.argv[1]), int(sys.argv[2])))
