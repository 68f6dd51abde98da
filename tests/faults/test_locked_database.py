"""Another process holds a database's write lock: no call outlasts its deadline."""

import asyncio
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from uuid import uuid4

import pytest

from lab.stack import RunningStack, eventually
from tests.fault_table import FULL, Report
from tests.faults.conftest import counts_are_turns, database

pytestmark = pytest.mark.asyncio(loop_scope="session")

# daca_shared.storage.sqlite waits 1 s for a lock. Later writes wait for the next group commit.
_WITHIN_S = 2.5 if FULL else 7.5


@contextmanager
def locked(path: Path) -> Iterator[None]:
    with closing(sqlite3.connect(path, isolation_level=None, timeout=10)) as db:
        db.execute("BEGIN IMMEDIATE")
        yield
        db.execute("ROLLBACK")


@pytest.mark.parametrize(("whose", "expected"), [("analytics", 200), ("chat", 503)])
async def test_a_locked_database_is_bounded_by_the_deadline(
    system: RunningStack, report: Report, whose: str, expected: int
) -> None:
    user_id = f"locked-{uuid4().hex}"
    await system.chat_with(user_id)
    await eventually(lambda: system.count(user_id), 1)
    with locked(database(system, getattr(system, whose), f"{whose}.db")):
        began = time.monotonic()
        answers = await asyncio.gather(*(system.chat_with(user_id) for _ in range(4)))
        slowest_s = time.monotonic() - began
        read = await system.count(user_id)
    statuses = {status for status, _ in answers}
    after, _ = await system.chat_with(user_id)
    expected_count = 2 + 4 * (expected == 200)
    await eventually(lambda: system.count(user_id), expected_count)
    figures = {"statuses": statuses, "slowest s": slowest_s, "count read": read, "after": after}
    figures["counted"] = await system.count(user_id)
    bar = {f"{expected} within {_WITHIN_S} s": statuses == {expected} and slowest_s <= _WITHIN_S}
    bar |= {"reads go on": read == 1, "resumes": after == 200}
    bar["each count is its user's turns"] = await counts_are_turns(system, user_id)
    report(f"locked database of {whose}", figures, bar)
