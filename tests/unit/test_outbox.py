"""The outbox sends messages of kept turns to analytics, with a real database."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

import pytest

from chat_service.outbox.outbox import MOST_COUNTED, OutboxEntry
from daca_shared.domain import TimedOut, Unavailable
from lab.postgres import Place
from tests.chats import id_of, message, send, send_at_once
from tests.fakes import (
    ChatStores,
    FakeRecorder,
    eventually,
    opened_stores,
    running_stores,
    turn_of,
)

NOW = datetime(2026, 1, 2, tzinfo=UTC)


@pytest.fixture
def recorder() -> FakeRecorder:
    return FakeRecorder()


@pytest.fixture
async def stores(place: Place, recorder: FakeRecorder) -> AsyncIterator[ChatStores]:
    async with running_stores(place, recorder) as stores:
        yield stores


async def send_many(stores: ChatStores, count: int, user_id: str = "alice") -> list[UUID]:
    return await send_at_once(stores, *(message(user_id) for _ in range(count)))


async def left(stores: ChatStores) -> list[UUID]:
    """The ids in the table, refused ones included."""
    rows = await stores.database.read("SELECT message_id FROM chat.outbox ORDER BY seq")
    return [id_ for (id_,) in rows]


async def left_on_disk(place: Place) -> list[UUID]:
    async with opened_stores(place) as stores:
        return await left(stores)


async def test_sends_each_message_once(place: Place, recorder: FakeRecorder) -> None:
    async with running_stores(place, recorder) as stores:
        messages = [message(f"user{n % 7}") for n in range(100)]
        await asyncio.gather(*(send(stores, one) for one in messages))
        await asyncio.gather(*(stores.outbox.settled(f"user{n}") for n in range(7)))
        await asyncio.sleep(0.05)
    assert Counter(recorder.ids) == Counter(map(id_of, messages))
    users = {entry.message_id: entry.user_id for entry in recorder.recorded}
    assert users == {id_of(one): one.user_id for one in messages}
    assert await left_on_disk(place) == []


async def test_sends_more_than_one_batch_without_a_pause(
    stores: ChatStores, recorder: FakeRecorder
) -> None:
    recorder.open.clear()
    ids = await send_many(stores, 2001)
    recorder.open.set()
    # Also if nobody waits for it.
    await eventually(lambda: len(recorder.ids) == len(ids))
    assert Counter(recorder.ids) == Counter(ids)


async def test_tries_again_until_the_recorder_takes_it(
    stores: ChatStores, recorder: FakeRecorder
) -> None:
    recorder.failures = [Unavailable("away"), TimedOut("slow"), Unavailable("away")]
    ids = await send(stores, message())
    await stores.outbox.settled("alice")
    assert (recorder.ids, recorder.failures) == (ids, [])


async def test_messages_survive_a_restart(place: Place) -> None:
    away = FakeRecorder()
    away.failures = [Unavailable("away")] * 1000
    async with running_stores(place, away) as stores:
        ids = await send(stores, *(message() for _ in range(3)))
    back = FakeRecorder()
    async with running_stores(place, back) as stores:
        await stores.outbox.settled("alice")
        assert back.ids == ids
        assert await left(stores) == []


async def test_what_was_sent_but_not_acknowledged_is_sent_again(place: Place) -> None:
    async with running_stores(place, unsure := FakeRecorder()) as stores:
        unsure.open.clear()
        ids = await send(stores, message())
        await asyncio.sleep(0.1)
    assert await left_on_disk(place) == ids
    async with running_stores(place, again := FakeRecorder()) as stores:
        await stores.outbox.settled("alice")
    assert again.ids == ids


async def test_a_refused_message_stays_on_disk_and_blocks_no_other(
    place: Place, recorder: FakeRecorder
) -> None:
    async with running_stores(place, recorder) as stores:
        recorder.open.clear()
        messages = [message("alice"), message("mallory"), message("bob")]
        recorder.refused = {id_of(messages[1])}
        sent = await send(stores, *messages)
        recorder.open.set()
        for user_id in ("alice", "mallory", "bob"):
            await stores.outbox.settled(user_id)
        later = await send(stores, message("mallory"))
        await stores.outbox.settled("mallory")
        assert await stores.outbox.backlog() == (0, None)
        assert stores.outbox.refused == 1  # what an alert sees
    assert Counter(recorder.ids) == Counter([sent[0], sent[2], *later])
    assert await left_on_disk(place) == [sent[1]]
    # It isn't sent after the next start either.
    async with running_stores(place, again := FakeRecorder()) as stores:
        await stores.outbox.settled("mallory")
        await stores.outbox.send_the_rest()
    assert again.ids == []


class CountedRecorder(FakeRecorder):
    calls = 0

    async def record(self, entries: Sequence[OutboxEntry]) -> None:
        self.calls += 1
        await super().record(entries)


async def test_a_refused_message_is_found_among_hundreds_in_a_few_calls(place: Place) -> None:
    recorder = CountedRecorder()
    async with opened_stores(place, recorder) as stores:
        sent = await send_many(stores, 500)
        recorder.refused = {sent[250]}
        await stores.outbox.send_the_rest()
        assert await stores.outbox.backlog() == (0, None)
    assert Counter(recorder.ids) == Counter(sent) - Counter(recorder.refused)
    # Each may take milliseconds, and all of them are in one transaction.
    assert recorder.calls < 25


async def test_a_stopped_turn_that_is_answered_before_it_was_sent_is_sent_once(
    stores: ChatStores, recorder: FakeRecorder
) -> None:
    recorder.open.clear()
    one = message()
    for stopped in (True, False):
        async with stores.locks.turn(one.conversation):
            await stores.turns.keep(turn_of(one, "ok", stopped=stopped))
    recorder.open.set()
    await stores.outbox.settled("alice")
    assert {*recorder.ids} == {id_of(one)}


async def test_the_backlog_is_the_number_and_age_of_waiting_messages(
    stores: ChatStores, recorder: FakeRecorder
) -> None:
    assert await stores.outbox.backlog() == (0, None)
    recorder.open.clear()
    first, second = (turn_of(message(), "ok") for _ in range(2))
    for turn in (first, second):
        async with stores.locks.turn(turn.conversation):
            await stores.turns.keep(turn)
    assert await stores.outbox.backlog() == (2, first.end_time)
    recorder.open.set()
    await stores.outbox.settled("alice")
    assert await stores.outbox.backlog() == (0, None)


@pytest.mark.parametrize("count", [0, 1, 1201])
@pytest.mark.parametrize("somebody_waits", [False, True])
async def test_a_stop_sends_the_rest(
    place: Place, recorder: FakeRecorder, count: int, somebody_waits: bool
) -> None:
    async with opened_stores(place, recorder) as stores:
        ids = [*await send_many(stores, count, "bob"), *await send_many(stores, 1)]
        waiting = asyncio.create_task(stores.outbox.settled("alice" if somebody_waits else "zoe"))
        await asyncio.sleep(0.05)
        # Sending takes a twentieth of a second, but a busy machine may stall for seconds.
        stores.outbox.last_send_s = 30
        await stores.outbox.send_the_rest()
        assert Counter(recorder.ids) == Counter(ids)
        assert await left(stores) == []
        await waiting


async def test_a_stop_keeps_messages_that_analytics_does_not_accept(
    place: Place, recorder: FakeRecorder
) -> None:
    async with opened_stores(place, recorder) as stores:
        ids = await send_many(stores, 2)
        recorder.failures = [Unavailable("away")]
        await stores.outbox.send_the_rest()
        assert recorder.failures == []
        recorder.open.clear()
        async with asyncio.timeout(10):
            await stores.outbox.send_the_rest()
        assert await left(stores) == ids


async def test_a_huge_backlog_is_not_counted_completely(place: Place) -> None:
    new_id = "randomblob(16)" if isinstance(place, Path) else "gen_random_uuid()"
    add = f"""
    WITH RECURSIVE numbers (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n <= $1)
    INSERT INTO chat.outbox (message_id, user_id, sent_time, refused)
    SELECT {new_id}, 'alice', $2, n <= 5000 FROM numbers"""  # noqa: S608
    async with opened_stores(place) as stores:
        await stores.database.write(lambda statements: statements.fetch(add, 14_000, NOW))
        assert await stores.outbox.backlog() == (9001, NOW)
        await stores.database.write(lambda statements: statements.fetch(add, 14_000, NOW))
        assert await stores.outbox.backlog() == (MOST_COUNTED, NOW)
