"""A user's count, once all the user's messages are in it."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence

import pytest

from analytics_service.store import MAX_BATCH
from chat_service.outbox.analytics import SettledCounts
from chat_service.outbox.outbox import OutboxEntry
from daca_shared.domain import InvalidInput, TimedOut
from lab.postgres import Place
from tests.chats import CountingAnalytics, message, send_at_once
from tests.fakes import (
    ChatStores,
    FakeAnalytics,
    FakeOutbox,
    FakeRecorder,
    eventually,
    opened_stores,
    running_stores,
)

# How long the outbox gathers messages that nobody waits for.
GATHER_S = 0.05


class RealisticRecorder(FakeRecorder):
    """Is slow, and refuses batches that are too large, as analytics does."""

    def __init__(self) -> None:
        super().__init__()
        self.sizes: list[int] = []

    async def record(self, entries: Sequence[OutboxEntry]) -> None:
        self.sizes.append(len(entries))
        await asyncio.sleep(0.01)
        if len(entries) > MAX_BATCH:
            raise InvalidInput([], "too many")
        await super().record(entries)


@pytest.fixture
def recorder() -> RealisticRecorder:
    return RealisticRecorder()


@pytest.fixture
async def stores(place: Place, recorder: RealisticRecorder) -> AsyncIterator[ChatStores]:
    async with running_stores(place, recorder) as stores:
        yield stores


async def send(stores: ChatStores, *users: str) -> None:
    """Send one message of each user."""
    await send_at_once(stores, *map(message, users))


def users_of(recorder: FakeRecorder) -> Counter[str]:
    return Counter(entry.user_id for entry in recorder.recorded)


async def test_it_includes_a_message_sent_a_moment_ago(
    stores: ChatStores, recorder: RealisticRecorder
) -> None:
    counts = SettledCounts(CountingAnalytics(recorder), stores.outbox)
    for sent in range(1, 40):
        await send(stores, "alice")
        assert await counts.message_count("alice", timeout_s=5) == sent


async def test_it_waits_for_this_users_messages_only(
    stores: ChatStores, recorder: RealisticRecorder
) -> None:
    recorder.open.clear()
    await send(stores, "alice")
    waiting = asyncio.create_task(stores.outbox.settled("alice"))
    await stores.outbox.settled("bob")
    await asyncio.sleep(0.1)
    assert not waiting.done()
    recorder.open.set()
    await waiting
    assert users_of(recorder) == {"alice": 1}


async def test_messages_of_waiting_users_are_sent_at_once_and_others_share_a_batch(
    stores: ChatStores, recorder: RealisticRecorder
) -> None:
    began = time.monotonic()
    for n in range(20):
        await send(stores, f"user{n}")
        await asyncio.sleep(0.001)
    await stores.outbox.settled("user19")
    assert len(recorder.sizes) <= 2 + (time.monotonic() - began) / GATHER_S
    # Others are gathered for longer than that. On a busy machine, anything may take longer.
    for _ in range(100):
        began = time.monotonic()
        await send(stores, "alice")
        await stores.outbox.settled("alice")
        if time.monotonic() - began < GATHER_S:
            return
    pytest.fail("messages of waiting users are gathered, too")


async def test_a_backlog_larger_than_a_batch_does_not_delay_waiting_users(
    place: Place, recorder: RealisticRecorder
) -> None:
    async with opened_stores(place, recorder) as stores:
        await send(stores, *["batch job"] * 1000, "alice", "alice")
        sending = asyncio.create_task(stores.outbox.run())
        await stores.outbox.settled("alice")
        users = users_of(recorder)
        assert users["alice"] == 2
        assert users["batch job"] <= 500
        # Those who waited don't delay the others.
        await eventually(lambda: len(recorder.recorded) == 1002)
        assert max(recorder.sizes) <= MAX_BATCH
        sending.cancel()
        await asyncio.wait([sending])


async def test_many_waiting_users_behind_a_backlog_are_sent_in_few_small_batches(
    place: Place, recorder: RealisticRecorder
) -> None:
    users = [f"user{n}" for n in range(400)]
    async with opened_stores(place, recorder) as stores:
        await send(stores, *["batch job"] * 600, *users)
        waiting = [asyncio.create_task(stores.outbox.settled(user_id)) for user_id in users]
        await asyncio.sleep(1)
        sending = asyncio.create_task(stores.outbox.run())
        async with asyncio.timeout(20):
            await asyncio.gather(*waiting)
        sending.cancel()
        await asyncio.wait([sending])
    assert users_of(recorder) >= Counter(users)
    assert max(recorder.sizes) <= 100
    assert len(recorder.sizes) <= 10


async def test_a_waiting_user_with_many_messages_does_not_delay_other_waiting_users(
    place: Place, recorder: RealisticRecorder
) -> None:
    bots, users = [f"bot{n}" for n in range(5)], [f"user{n}" for n in range(8)]
    async with opened_stores(place, recorder) as stores:
        await send(stores, *["batch job"] * 100, *bots * 60, *users)
        waiting = [asyncio.create_task(stores.outbox.settled(name)) for name in bots + users]
        await asyncio.sleep(1)
        await stores.outbox.send_batch()
        assert users_of(recorder) >= Counter(users)
        for task in waiting:
            task.cancel()


async def test_a_slow_analytics_does_not_delay_waiting_users_behind_a_backlog(place: Place) -> None:
    class Slow(RealisticRecorder):
        async def record(self, entries: Sequence[OutboxEntry]) -> None:
            await asyncio.sleep(len(entries) / 1000)
            await super().record(entries)

    async with opened_stores(place, recorder := Slow()) as stores:
        await send(stores, *["batch job"] * 1000, "alice")
        sending = asyncio.create_task(stores.outbox.run())
        await eventually(lambda: recorder.sizes)
        await stores.outbox.settled("alice")
        assert users_of(recorder)["batch job"] <= 300
        sending.cancel()
        await asyncio.wait([sending])


async def test_it_does_not_wait_forever() -> None:
    outbox = FakeOutbox()
    outbox.settles = False
    with pytest.raises(TimedOut):
        await SettledCounts(FakeAnalytics(), outbox).message_count("alice", timeout_s=0.05)


async def test_a_wait_that_ends_a_moment_early_gives_no_number() -> None:
    class Early(FakeOutbox):
        async def settled(self, user_id: str, timeout_s: float | None = None) -> bool:
            return False

    with pytest.raises(TimedOut):
        await SettledCounts(FakeAnalytics(), Early()).message_count("alice", timeout_s=5)
