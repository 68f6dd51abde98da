import asyncio
import os
import signal
import sqlite3
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import closing
from pathlib import Path

import pytest
import uvloop

from daca_shared.domain import TimedOut, Unavailable
from daca_shared.storage.database import Statements, Work
from daca_shared.storage.sqlite import SqliteDatabase
from daca_shared.storage.sqlite_file import SqliteFile
from lab.machine import open_files

CREATE = "CREATE TABLE test.numbers (n INTEGER PRIMARY KEY);"
HOLD = """
import asyncio, sys
from pathlib import Path
from daca_shared.storage.sqlite import SqliteDatabase
asyncio.run(SqliteDatabase.open(Path(sys.argv[1]), "test", []))
print("open", flush=True)
sys.stdin.read()
"""


def insert(n: int) -> str:
    return f"INSERT INTO test.numbers VALUES ({n});"  # noqa: S608


def add(n: int) -> Work[int]:
    async def work(statements: Statements) -> int:
        await statements.fetch("INSERT INTO test.numbers VALUES ($1)", n)
        return n

    return work


async def fail(statements: Statements) -> None:
    await add(-1)(statements)
    raise ValueError("a bug")


async def numbers(database: SqliteDatabase) -> list[int]:
    return [n for (n,) in await database.read("SELECT n FROM test.numbers ORDER BY n")]


async def opened(path: Path, *scripts: str) -> SqliteDatabase:
    return await SqliteDatabase.open(path, "test", [CREATE, *scripts])


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "deep" / "numbers.db"


@pytest.fixture
async def database(path: Path) -> AsyncIterator[SqliteDatabase]:
    database = await opened(path)
    yield database
    await database.close()


async def test_writes_that_come_during_a_commit_share_the_next_one(
    database: SqliteDatabase, path: Path
) -> None:
    async def committed(statements: Statements) -> int:
        # What other connections see in the meantime.
        with closing(sqlite3.connect(path)) as other:
            ((count,),) = other.execute("SELECT count(*) FROM numbers").fetchall()
        return int(count)

    *added, seen = await asyncio.gather(
        *(database.write(add(n)) for n in range(50)), database.write(committed)
    )
    assert added == [*range(50)]
    assert seen == 1  # the first write begins at once; all others share one commit with this read
    assert await numbers(database) == [*range(50)]


async def test_a_bad_write_fails_alone_in_its_group(database: SqliteDatabase) -> None:
    await database.write(add(3))
    writes = [database.write(add(n)) for n in range(6)]
    outcomes = await asyncio.gather(*writes, database.write(fail), return_exceptions=True)
    assert isinstance(outcomes[3], Unavailable)
    assert isinstance(outcomes[6], ValueError)
    assert [o for o in outcomes if not isinstance(o, Exception)] == [0, 1, 2, 4, 5]
    assert await numbers(database) == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize("under_way", [True, False])
async def test_a_cancelled_write_leaves_the_others_alone(
    database: SqliteDatabase, under_way: bool
) -> None:
    async def slow(statements: Statements) -> int:
        await asyncio.sleep(0.1)
        return 0

    first = asyncio.create_task(database.write(slow if under_way else add(100)))
    writes = [asyncio.create_task(database.write(add(n))) for n in range(3)]
    await asyncio.sleep(0.02 if under_way else 0)
    writes[1].cancel()
    if under_way:
        first.cancel()
    outcomes = await asyncio.gather(*writes, return_exceptions=True)
    assert outcomes[::2] == [0, 2]
    assert isinstance(outcomes[1], asyncio.CancelledError)
    assert {0, 2} <= set(await numbers(database))
    assert await database.write(add(4)) == 4


async def test_migrations_run_once_and_in_order(path: Path) -> None:
    for scripts in ([], [insert(1)], [insert(1)], [insert(1), insert(2)]):
        await (await opened(path, *scripts)).close()
    database = await opened(path, insert(1), insert(2))
    assert await numbers(database) == [1, 2]
    await database.close()


async def test_a_failed_migration_leaves_the_file_as_it_was(path: Path) -> None:
    await (await opened(path)).close()
    with pytest.raises(Unavailable, match=r"numbers\.db can't be opened"):
        await opened(path, insert(1) + insert(1))
    database = await opened(path)
    assert await numbers(database) == []
    await database.close()


async def test_a_newer_schema_is_refused_and_its_file_closed(path: Path) -> None:
    await (await opened(path, insert(1))).close()
    with pytest.raises(Unavailable, match="newer"):
        await opened(path)
    # SQLite removes it when the last connection is closed.
    assert not path.with_name(f"{path.name}-wal").exists()
    await (await opened(path, insert(1))).close()


async def test_a_commit_survives_power_loss(database: SqliteDatabase) -> None:
    async def pragmas(statements: Statements) -> list[object]:
        names = ("journal_mode", "synchronous")
        return [(await statements.fetch(f"PRAGMA test.{name}"))[0][0] for name in names]

    assert await database.write(pragmas) == ["wal", 2]


async def test_reads_cannot_write(database: SqliteDatabase) -> None:
    with pytest.raises(Unavailable):
        await database.read("INSERT INTO test.numbers VALUES (1)")


async def test_a_file_that_another_program_has_locked_is_unavailable_until_it_is_free(
    database: SqliteDatabase, path: Path
) -> None:
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    started = time.monotonic()
    *outcomes, longest_s = await asyncio.gather(
        *(database.write(add(n)) for n in range(3)), longest_pause_s(), return_exceptions=True
    )
    assert isinstance(longest_s, float)
    assert longest_s < 0.5  # nobody else waits for it
    assert [type(outcome) for outcome in outcomes] == [Unavailable] * 3
    assert time.monotonic() - started < 2.8  # together, not one after the other (3 s)
    assert await numbers(database) == []
    other.execute("ROLLBACK")
    other.close()
    assert await database.write(add(9)) == 9


async def longest_pause_s() -> float:
    """How long the event loop was blocked in the next half second."""
    pauses, before = [], time.monotonic()
    for _ in range(50):
        await asyncio.sleep(0.01)
        pauses.append(time.monotonic() - before)
        before += pauses[-1]
    return max(pauses)


def test_a_file_that_cannot_be_opened_is_not_left_open(path: Path) -> None:
    path.parent.mkdir(parents=True)
    path.write_bytes(b"no database" * 1000)
    before = open_files()
    for _ in range(3):
        with pytest.raises(sqlite3.DatabaseError):
            SqliteFile(path, "test", [CREATE])
    assert open_files() == before


async def test_a_file_is_locked_by_one_process_which_is_named_to_others(path: Path) -> None:
    other = await asyncio.create_subprocess_exec(
        sys.executable, "-c", HOLD, path,
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert other.stdout
    assert (await other.stdout.readline()).strip() == b"open"
    with pytest.raises(Unavailable, match=f"process {other.pid} uses this data folder"):
        await opened(path)
    other.send_signal(signal.SIGKILL)
    await other.wait()
    database = await opened(path)
    with pytest.raises(Unavailable, match=f"process {os.getpid()} uses"):
        await opened(path)
    await database.close()
    await (await opened(path)).close()


async def test_an_unusable_lock_file_is_unavailable(path: Path) -> None:
    path.with_suffix(".lock").mkdir(parents=True)
    with pytest.raises(Unavailable, match="can't be opened"):
        await opened(path)


@pytest.fixture
def foreign_folder(tmp_path: Path) -> Iterator[Path]:
    """A folder in which this process may not write."""
    tmp_path.chmod(0o555)
    user, nobody = os.geteuid(), 65534
    if user == 0:  # root may write anywhere
        os.seteuid(nobody)
    yield tmp_path / "data"
    os.seteuid(user)


async def test_where_permission_is_denied_the_error_says_to_which_user(
    foreign_folder: Path,
) -> None:
    problem = f"opened by user {os.geteuid()}: .*Permission denied"
    with pytest.raises(Unavailable, match=problem):
        await opened(foreign_folder / "numbers.db")


async def test_errors_do_not_tell_callers_about_sqlite(database: SqliteDatabase) -> None:
    with pytest.raises(Unavailable) as failure:
        await database.read("SELECT * FROM test.no_such_table")
    assert "no_such_table" not in str(failure.value)


async def test_closing_finishes_writes_under_way(path: Path) -> None:
    database = await opened(path)
    writes = [asyncio.create_task(database.write(add(n))) for n in range(500)]
    await asyncio.sleep(0)
    await database.close()
    assert await asyncio.gather(*writes) == [*range(500)]
    database = await opened(path)
    assert await numbers(database) == [*range(500)]
    await database.close()


class SlowToClose(SqliteFile):
    def __init__(self, path: Path) -> None:
        super().__init__(path, "test", [CREATE])
        self._at_once, self.close = self.close, self._slowly

    def _slowly(self) -> None:
        time.sleep(0.1)
        self._at_once()


def test_writes_beside_the_emptying_of_the_log_are_kept(path: Path) -> None:
    async def write_beside() -> None:
        database = await opened(path)
        for n in range(0, 600, 2):
            await database.write(add(n))
            emptying = asyncio.create_task(database.purge())
            for _ in range(2):
                await asyncio.sleep(0)
            await asyncio.create_task(database.write(add(n + 1)))
            await emptying
        await database.close()

    # On the services' loop, which holds results of threads longer than asyncio's does.
    uvloop.run(write_beside())


async def test_closing_ends_searches_and_empties_the_log(path: Path) -> None:
    database = await opened(path)
    await database.write(add(1))
    endless = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT max(x) FROM n"
    search = asyncio.create_task(database.search("eve", endless))
    await asyncio.sleep(0.1)
    began = time.monotonic()
    await database.close()
    assert time.monotonic() - began < 4  # a search may take 4.5 s
    assert not path.with_name(f"{path.name}-wal").exists()
    with pytest.raises(TimedOut) as ended:
        await search
    assert ended.value.code == "TIMED_OUT"


async def test_a_database_that_is_being_closed_refuses_work(path: Path) -> None:
    database = SqliteDatabase(SlowToClose(path))
    closing = asyncio.create_task(database.close())
    await asyncio.sleep(0.01)
    assert not closing.done()
    for use in (database.read("SELECT n FROM test.numbers"), database.write(add(1))):
        with pytest.raises(Unavailable):
            await use
    await closing
