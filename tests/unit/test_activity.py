"""How many messages a user sent on each of the last days, with a real database."""

from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest

from analytics_service.store import AnalyticsStore, MessageBatch, SentMessage
from daca_shared.domain import NotFound
from lab.postgres import Place

NOON = datetime.now(UTC).replace(hour=12)


def batch(*days_ago: int) -> MessageBatch:
    return MessageBatch(
        messages=tuple(
            SentMessage(message_id=uuid4(), user_id="zoe", sent_time=NOON - timedelta(days=days))
            for days in days_ago
        )
    )


async def counts(store: AnalyticsStore, day_count: int) -> list[int]:
    return [*(await store.activity("zoe", day_count)).values()]


async def test_each_message_counts_once_on_its_own_day(place: Place) -> None:
    store = await AnalyticsStore.open(place, seed_demo_users=False)
    await store.record(first := batch(0, 0, 2, 40))
    await store.record(first)
    await store.record(batch(0))
    assert await counts(store, 4) == [0, 1, 0, 3]
    assert [*await store.activity("zoe", 2)] == [
        NOON.date() - timedelta(days=1),
        NOON.date(),
    ]
    with pytest.raises(NotFound):
        await store.activity("nobody", 4)
    await store.database.close()


async def test_a_demo_user_has_done_nothing_yet(place: Place) -> None:
    store = await AnalyticsStore.open(place, seed_demo_users=True)
    assert [*(await store.activity("alice", 14)).values()] == [0] * 14
    await store.database.close()
