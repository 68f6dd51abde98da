"""What stores can rely on with either database."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

import pytest
from pydantic import SecretStr

from daca_shared.domain import Unavailable
from daca_shared.storage.database import Database, Statements, Work, open_database
from lab.postgres import Place

TABLES = {
    "sqlite": "CREATE TABLE test.things (n INTEGER PRIMARY KEY, id BLOB, said TEXT, at INTEGER);",
    "postgres": "CREATE TABLE test.things "
    "(n bigint PRIMARY KEY, id uuid, said text, at timestamptz);",
}
INSERT = "INSERT INTO test.things (n, id, said, at) VALUES ($1, $2, $3, $4) RETURNING n"
ID = UUID(int=7)
NOW = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)


@pytest.fixture
def migrations(tmp_path: Path) -> Path:
    for kind, table in TABLES.items():
        (tmp_path / kind).mkdir()
        (tmp_path / kind / "001_things.sql").write_text(table)
    return tmp_path


@pytest.fixture
async def database(place: Place, migrations: Path) -> AsyncIterator[Database]:
    database = await open_database(place, "test", migrations)
    yield database
    await database.close()


def add(n: int, said: str = "", at: datetime = NOW) -> Work[None]:
    async def work(statements: Statements) -> None:
        await statements.fetch(INSERT, n, ID, said, at)

    return work


async def numbers(database: Database) -> list[int]:
    return [n for (n,) in await database.read("SELECT n FROM test.things ORDER BY n")]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "\0",
        "\x1b",
        "\x1b0",
        "\x1b\0",
        "\0\x1b1\x1b",
        "\x1b1",
        "\\u0000 '\"%$1",
        "ü \U0001f600 \u2028",
    ],
    ids=ascii,
)
async def test_any_text_is_read_back_unchanged(database: Database, text: str) -> None:
    await database.write(add(1, text))
    ((said,),) = await database.read("SELECT said FROM test.things WHERE said = $1", text)
    assert said == text


@pytest.mark.parametrize(
    "time",
    ["0001-01-01T00:00Z", "1969-12-31T23:59:59.999999Z", "9999-12-31T23:59:59.999999Z"],
)
async def test_any_time_is_read_back_unchanged(database: Database, time: str) -> None:
    at = datetime.fromisoformat(time)
    await database.write(add(1, at=at))
    ((stored,),) = await database.read("SELECT at FROM test.things WHERE at = $1", at)
    assert database.time(stored) == at


async def test_ids_are_uuids_and_null_is_none(database: Database) -> None:
    async def work(statements: Statements) -> None:
        await statements.fetch(INSERT, 1, ID, None, None)

    await database.write(work)
    rows = await database.read("SELECT n, id, said, at FROM test.things WHERE id = $1", ID)
    assert [[*row] for row in rows] == [[1, ID, None, None]]


async def test_one_statement_can_run_for_many_rows_and_returns_all_results(
    database: Database,
) -> None:
    async def work(statements: Statements) -> list[int]:
        rows = await statements.fetchmany(INSERT, [(n, ID, "", NOW) for n in (3, 1, 2)])
        assert await statements.fetchmany(INSERT, []) == []
        return [n for (n,) in rows]

    assert await database.write(work) == [3, 1, 2]
    assert await numbers(database) == [1, 2, 3]


@pytest.mark.parametrize("error", [Unavailable("no more"), ValueError("a bug")], ids=repr)
async def test_nothing_is_kept_of_a_write_that_raises(database: Database, error: Exception) -> None:
    async def work(statements: Statements) -> None:
        await add(1)(statements)
        raise error

    with pytest.raises(type(error), match=str(error)):
        await database.write(work)
    assert await numbers(database) == []
    await database.write(add(1))
    assert await numbers(database) == [1]


async def test_nothing_is_kept_of_a_write_with_a_statement_that_fails(database: Database) -> None:
    async def work(statements: Statements) -> None:
        await add(1)(statements)
        await statements.fetch("SELECT * FROM test.no_such_table")

    with pytest.raises(Unavailable) as failure:
        await database.write(work)
    assert failure.value.code == "STORAGE_UNAVAILABLE"
    assert await numbers(database) == []


async def test_writes_of_cancelled_callers_are_whole_and_the_database_goes_on(
    database: Database,
) -> None:
    async def two(statements: Statements, n: int) -> None:
        await add(2 * n)(statements)
        await asyncio.sleep(0.001)
        await add(2 * n + 1)(statements)

    def pair(n: int) -> Work[None]:
        return lambda statements: two(statements, n)

    writing = [asyncio.create_task(database.write(pair(n))) for n in range(20)]
    await asyncio.sleep(0.02)
    for task in writing[::2]:
        task.cancel()
    outcomes = await asyncio.gather(*writing, return_exceptions=True)
    await database.write(add(100))
    kept = await numbers(database)
    assert {2 * n for n in range(20) if outcomes[n] is None} <= {*kept}
    assert {n + 1 for n in kept if n % 2 == 0} - {101} == {n for n in kept if n % 2}


async def test_only_postgres_is_for_several_processes(database: Database, place: Place) -> None:
    assert database.is_shared == isinstance(place, SecretStr)


async def test_initial_statements_run_only_in_a_new_schema(place: Place, migrations: Path) -> None:
    for _ in range(2):
        seed = "INSERT INTO test.things (n) VALUES (1);"
        database = await open_database(place, "test", migrations, on_create=seed)
        assert await numbers(database) == [1]
        await database.close()
