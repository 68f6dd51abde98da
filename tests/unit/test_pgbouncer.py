"""Both services' stores on a PostgreSQL behind a PgBouncer that pools per transaction."""

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime
from uuid import uuid4

import pytest
from pydantic import SecretStr

from analytics_service.store import AnalyticsStore, MessageBatch, SentMessage
from chat_service.chat.messages import ChatMessage
from daca_shared.domain import Unavailable
from lab.pgbouncer import pooled
from tests.chats import message, send_at_once
from tests.fakes import FakeRecorder, running_stores


@pytest.fixture
def bouncer(database_url: SecretStr) -> Iterator[str]:
    # Fewer connections than in either service's own pool, so they are shared.
    with pooled(database_url, connections=2) as url:
        yield url


@pytest.fixture
def url(bouncer: str) -> SecretStr:
    return SecretStr(f"{bouncer}?pgbouncer=true")


async def test_analytics_counts_through_it(url: SecretStr) -> None:
    stores = [await AnalyticsStore.open(url, seed_demo_users=False) for _ in range(3)]
    batches = [
        MessageBatch(
            messages=[
                SentMessage(message_id=uuid4(), user_id="alice", sent_time=datetime.now(UTC))
                for _ in range(20)
            ]
        )
        for _ in range(30)
    ]
    counted = await asyncio.gather(
        *(stores[n % 3].record(batch) for n, batch in enumerate(batches)),
        *(stores[0].record(batch) for batch in batches),
    )
    assert sum(counted) == 600
    counts = await asyncio.gather(*(store.get("alice") for store in stores * 10))
    assert {analytics.message_count for analytics in counts} == {600}
    for store in stores:
        await store.database.close()


async def test_replicas_of_chat_keep_and_send_through_it(url: SecretStr) -> None:
    recorder = FakeRecorder()
    users = [f"user{n}" for n in range(8)]
    async with running_stores(url, recorder) as first, running_stores(url, recorder) as second:
        for stores in (first, second, first):
            await send_at_once(stores, *map(message, users * 5))
        await asyncio.gather(*(second.outbox.settled(user_id) for user_id in users))
        one = ChatMessage(user_id="alice", text="hi")
        async with first.locks.turn(one.conversation):
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.2), second.locks.turn(one.conversation):
                    pass
        async with asyncio.timeout(5), second.locks.turn(one.conversation):
            pass
    assert len(set(recorder.ids)) == 120


async def test_a_burst_shares_the_connections_that_it_gives_us(database_url: SecretStr) -> None:
    with pooled(database_url, connections=2, clients=2) as url:
        store = await AnalyticsStore.open(SecretStr(f"{url}?pgbouncer=true"), seed_demo_users=True)
        found = await asyncio.gather(*(store.get("alice") for _ in range(12)))
        assert {analytics.message_count for analytics in found} == {5}
        await store.database.close()


async def test_without_the_parameter_a_start_says_what_the_pooler_refuses(bouncer: str) -> None:
    with pytest.raises(Unavailable, match="startup parameter"):
        await AnalyticsStore.open(SecretStr(bouncer), seed_demo_users=False)
