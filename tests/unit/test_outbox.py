import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from uuid import UUID

import pytest

from chat_service.chat.ports import ChatMessage
from chat_service.outbox.outbox import Outbox
from chat_service.turns.stores import open_stores
from daca_shared.domain import TimedOut, Unavailable
from lab.postgres import Place, nobody_can_write, run_sql
from tests.fakes import FakeRecorder, eventually, running_outbox


@pytest.fixture
def recorder() -> FakeRecorder:
    return FakeRecorder()


@pytest.fixture
async def outbox(place: Place, recorder: FakeRecorder) -> AsyncIterator[Outbox]:
    async with running_outbox(place, recorder) as outbox:
        yield outbox


def message(user_id: str = "alice") -> ChatMessage:
    return ChatMessage(user_id=user_id, text="hi")


async def send(outbox: Outbox, *messages: ChatMessage) -> list[UUID]:
    for one in messages:
        async with outbox.accept(one):
            pass
    return [one.message_id for one in messages]


async def left_on_disk(place: Place) -> list[UUID]:
    nobody, never = -1, datetime.max.replace(tzinfo=UTC)
    async with open_stores(place) as stores:
        rows = await stores.outbox_rows.others(nobody, after=0, since=never, until=never)
    return [entry.message_id for entry in rows]


async def test_delivers_each_message_once(place: Place, recorder: FakeRecorder) -> None:
    async with running_outbox(place, recorder) as outbox:
        messages = [message(f"user{n % 7}") for n in range(100)]
        await asyncio.gather(*(send(outbox, one) for one in messages))
        await asyncio.gather(*(outbox.settled(f"user{n}") for n in range(7)))
        await asyncio.sleep(0.05)
    assert Counter(recorder.ids) == Counter(m.message_id for m in messages)
    users = {entry.message_id: entry.user_id for entry in recorder.recorded}
    assert users == {m.message_id: m.user_id for m in messages}
    assert await left_on_disk(place) == []


async def test_delivers_more_than_one_batch(outbox: Outbox, recorder: FakeRecorder) -> None:
    recorder.open.clear()
    messages = [message() for _ in range(1201)]
    await asyncio.gather(*(send(outbox, one) for one in messages))
    recorder.open.set()
    await outbox.settled("alice")
    assert Counter(recorder.ids) == Counter(m.message_id for m in messages)


async def test_a_message_id_that_is_sent_again_is_kept_once(
    outbox: Outbox, recorder: FakeRecorder
) -> None:
    recorder.open.clear()
    same = message()
    await send(outbox, same, same)
    recorder.open.set()
    await outbox.settled("alice")
    assert recorder.ids == [same.message_id]


async def test_holds_a_message_until_its_own_context_is_left(
    outbox: Outbox, recorder: FakeRecorder
) -> None:
    held = message("alice")
    async with outbox.accept(held):
        others = await send(outbox, message("alice"), message("bob"))
        await outbox.settled("bob")
        await outbox.settled("alice")
        assert recorder.ids == others
    await outbox.settled("alice")
    assert recorder.ids == [*others, held.message_id]


async def test_retries_until_the_recorder_takes_it(outbox: Outbox, recorder: FakeRecorder) -> None:
    recorder.failures = [Unavailable("away"), TimedOut("slow"), Unavailable("away")]
    ids = await send(outbox, message())
    await outbox.settled("alice")
    assert (recorder.ids, recorder.failures) == (ids, [])


async def test_messages_survive_a_restart(place: Place) -> None:
    away = FakeRecorder()
    away.failures = [Unavailable("away")] * 1000
    async with running_outbox(place, away) as outbox:
        ids = await send(outbox, *(message() for _ in range(3)))
    back = FakeRecorder()
    async with running_outbox(place, back) as outbox:
        await outbox.settled("alice")
        assert back.ids == ids
    assert await left_on_disk(place) == []


async def test_what_was_sent_but_not_acknowledged_is_sent_again(place: Place) -> None:
    async with running_outbox(place, unsure := FakeRecorder()) as outbox:
        unsure.open.clear()
        ids = await send(outbox, message())
        await asyncio.sleep(0.05)
    assert await left_on_disk(place) == ids
    async with running_outbox(place, again := FakeRecorder()) as outbox:
        await outbox.settled("alice")
    assert again.ids == ids


async def test_a_refused_message_stays_on_disk_and_blocks_no_other(
    place: Place, recorder: FakeRecorder
) -> None:
    async with running_outbox(place, recorder) as outbox:
        recorder.open.clear()
        messages = [message("alice"), message("mallory"), message("bob")]
        recorder.refused = {messages[1].message_id}
        await send(outbox, *messages)
        recorder.open.set()
        for user_id in ("alice", "mallory", "bob"):
            await outbox.settled(user_id)
        later = await send(outbox, message("mallory"))
        await outbox.settled("mallory")
    assert Counter(recorder.ids) == Counter(
        [messages[0].message_id, messages[2].message_id, *later]
    )
    assert await left_on_disk(place) == [messages[1].message_id]


async def test_settled_waits_for_this_users_delivery_only(
    outbox: Outbox, recorder: FakeRecorder
) -> None:
    recorder.open.clear()
    ids = await send(outbox, message("alice"))
    waiting = asyncio.create_task(outbox.settled("alice"))
    await outbox.settled("bob")
    await asyncio.sleep(0.05)
    assert not waiting.done()
    recorder.open.set()
    await waiting
    assert recorder.ids == ids


async def test_settled_returns_only_after_every_message_of_the_user(
    outbox: Outbox, recorder: FakeRecorder
) -> None:
    for n in range(50):
        await send(outbox, message())
        await outbox.settled("alice")
        assert len(recorder.recorded) == n + 1


@pytest.mark.parametrize("after_s", [0, 0.05])
async def test_a_cancelled_callers_message_is_delivered(
    outbox: Outbox, recorder: FakeRecorder, after_s: float
) -> None:
    one = message()

    async def chat() -> None:
        async with outbox.accept(one):
            await asyncio.Event().wait()

    chatting = asyncio.create_task(chat())
    await asyncio.sleep(after_s)
    chatting.cancel()
    await asyncio.wait([chatting])
    await eventually(lambda: recorder.ids == [one.message_id])


async def test_a_caller_cancelled_before_its_write_began_is_delivered(
    outbox: Outbox, recorder: FakeRecorder, place: Place
) -> None:
    first, second = message(), message()
    async with nobody_can_write(place, "outbox"):
        blocked = asyncio.create_task(send(outbox, first))
        await asyncio.sleep(0.05)
        waiting = asyncio.create_task(send(outbox, second))
        await asyncio.sleep(0.05)
        waiting.cancel()
        await asyncio.wait([waiting])
    await blocked
    await eventually(lambda: {*recorder.ids} == {first.message_id, second.message_id})


async def test_a_failed_body_does_not_lose_the_message(
    outbox: Outbox, recorder: FakeRecorder
) -> None:
    one = message()
    with pytest.raises(RuntimeError):
        async with outbox.accept(one):
            raise RuntimeError
    await eventually(lambda: recorder.ids == [one.message_id])


async def test_a_user_who_comes_from_another_process_is_settled_once_that_has_sent(
    place: Place, recorder: FakeRecorder
) -> None:
    recorder.open.clear()
    async with running_outbox(place, recorder) as theirs, running_outbox(place, recorder) as ours:
        ids = await send(theirs, message("alice"))
        waiting = asyncio.create_task(ours.settled("alice"))
        await ours.settled("bob")
        await asyncio.sleep(0.1)
        assert not waiting.done()
        recorder.open.set()
        await waiting
        assert recorder.ids == ids


async def test_a_user_with_chats_in_two_processes_at_once_waits_for_the_earlier_only(
    place: Place, recorder: FakeRecorder
) -> None:
    async with running_outbox(place, recorder) as theirs, running_outbox(place, recorder) as ours:
        async with theirs.accept(first := message("alice")):
            await asyncio.sleep(0.1)
            async with ours.accept(message("alice")):
                waiting = asyncio.create_task(ours.settled("alice"))
                await theirs.settled("alice")
                assert not waiting.done()
                await asyncio.sleep(0.05)
        await waiting
        assert first.message_id in recorder.ids


async def test_a_message_that_cannot_be_written_is_unavailable(
    place: Place, outbox: Outbox, recorder: FakeRecorder
) -> None:
    await run_sql(place, "DROP TABLE outbox")
    with pytest.raises(Unavailable):
        await send(outbox, message())
    assert recorder.ids == []


async def test_another_processs_message_is_left_to_it_until_it_must_be_gone(
    place: Place, recorder: FakeRecorder
) -> None:
    theirs = message("bob")
    async with (
        running_outbox(place, FakeRecorder()) as other,
        other.accept(theirs),
        running_outbox(place, recorder) as ours,
    ):
        mine = await send(ours, message("alice"))
        await ours.settled("alice")
        await asyncio.sleep(0.5)
        assert recorder.ids == mine
        await eventually(lambda: recorder.ids == [*mine, theirs.message_id])


async def test_a_message_that_is_sent_again_elsewhere_is_settled_there(
    place: Place, recorder: FakeRecorder
) -> None:
    async with open_stores(place) as stores:
        killed, one = Outbox(stores.outbox_rows, FakeRecorder()), message()
        await send(killed, one)
    async with running_outbox(place, recorder) as outbox:
        async with outbox.accept(one):
            await asyncio.sleep(3)  # others of its age are taken over meanwhile
        await outbox.settled("alice")
        assert recorder.ids == [one.message_id]


async def test_settled_waits_for_what_the_process_before_still_accepts(place: Place) -> None:
    slow = FakeRecorder()
    slow.open.clear()
    async with running_outbox(place, slow) as old, running_outbox(place, FakeRecorder()) as new:
        await new.settled("alice")
        await send(old, message())
        settled = asyncio.create_task(new.settled("alice"))
        await asyncio.wait_for(new.settled("bob"), 1)
        await asyncio.sleep(0.1)
        assert not settled.done()
        slow.open.set()
        await asyncio.wait_for(settled, 1)
    assert await left_on_disk(place) == []
