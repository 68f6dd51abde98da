"""The migration of the analytics service's data from before 1.0 loses nothing."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from analytics_service.store import AnalyticsStore, MessageBatch, SentMessage
from daca_shared.storage.database import read_scripts
from daca_shared.storage.sqlite import SqliteDatabase
from lab.postgres import Place, run_sql
from tests.old_databases import message_id, restore

SCRIPTS = Path(__file__).parents[2] / "analytics_service" / "schema" / "sqlite"


@pytest.fixture
async def store(place: Place) -> AsyncIterator[AnalyticsStore]:
    await restore(place, "analytics")
    store = await AnalyticsStore.open(place, seed_demo_users=True)
    yield store
    await store.database.close()


async def days(place: Place) -> set[tuple[str, str, int]]:
    statement = "SELECT user_id, day, message_count FROM activity"
    return {tuple(row) for row in await run_sql(place, statement)}


async def test_every_users_count_and_last_time_are_as_they_were(store: AnalyticsStore) -> None:
    users = ("alice", "bob", "müller 😀", "first", "last")
    known = [await store.get(user_id) for user_id in users]
    assert [(user.message_count, user.last_message_time) for user in known] == [
        (8, datetime(2026, 1, 31, 12, 0, 0, 1, tzinfo=UTC)),
        (4, datetime(2026, 2, 2, 0, 3, 4, 500000, tzinfo=UTC)),
        (3, datetime(1969, 12, 31, 23, 59, 59, 999999, tzinfo=UTC)),
        (1, datetime.min.replace(tzinfo=UTC)),
        (1, datetime.max.replace(tzinfo=UTC)),
    ]


async def test_every_day_keeps_its_count(store: AnalyticsStore, place: Place) -> None:
    assert await days(place) == {
        ("alice", "2026-01-30", 1),
        ("alice", "2026-01-31", 2),
        ("bob", "2026-02-02", 1),
        ("müller 😀", "1969-12-30", 1),
        ("müller 😀", "1969-12-31", 2),
        ("first", "0001-01-01", 1),
        ("last", "9999-12-31", 1),
    }


async def test_ids_that_were_counted_stay_counted_and_new_ones_add_to_them(
    store: AnalyticsStore, place: Place
) -> None:
    at = datetime(2026, 1, 31, 18, tzinfo=UTC)
    batch = MessageBatch(
        messages=tuple(
            SentMessage(message_id=message_id(number), user_id="alice", sent_time=at)
            for number in (1, 2, 3, 100)
        )
    )
    assert await store.record(batch) == 1
    alice = await store.get("alice")
    assert (alice.message_count, alice.last_message_time) == (9, at)
    assert ("alice", "2026-01-31", 3) in await days(place)


async def test_a_file_from_before_daily_counts_gets_them(tmp_path: Path) -> None:
    file = tmp_path / "analytics.db"
    await (await SqliteDatabase.open(file, "analytics", read_scripts(SCRIPTS)[:1])).close()
    # Around midnight. Days before 1970 must be rounded down, too.
    await run_sql(
        file,
        "INSERT INTO messages VALUES (X'01', 'zoe', -86400000001), (X'02', 'zoe', -86400000000),"
        " (X'03', 'zoe', -1), (X'04', 'zoe', 0), (X'05', 'zoe', 86400000000)",
    )
    store = await AnalyticsStore.open(file, seed_demo_users=False)
    assert await days(file) == {
        ("zoe", "1969-12-30", 1),
        ("zoe", "1969-12-31", 2),
        ("zoe", "1970-01-01", 1),
        ("zoe", "1970-01-02", 1),
    }
    await store.database.close()
