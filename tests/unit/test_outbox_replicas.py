"""Of several chat processes on one PostgreSQL, any may send any message."""

import asyncio
from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import uuid5

from pydantic import SecretStr

from chat_service.outbox.outbox import Outbox
from daca_shared.storage.database import Database, Row, Work
from tests.chats import message, send
from tests.fakes import FakeRecorder, eventually, opened_stores, running_stores, turn_of


class WatchedDatabase:
    """Counts the statements that a database gets."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.is_shared = database.is_shared
        self.calls = 0

    async def read(self, statement: str, *arguments: Any) -> Sequence[Row]:
        self.calls += 1
        return await self._database.read(statement, *arguments)

    async def search(self, user_id: str, statement: str, *arguments: Any) -> Sequence[Row]:
        return await self.read(statement, *arguments)

    async def write[T](self, work: Work[T]) -> T:
        self.calls += 1
        return await self._database.write(work)

    def time(self, stored: Any) -> datetime:
        return self._database.time(stored)

    async def purge(self) -> None:
        await self._database.purge()

    async def check(self) -> None:
        await self._database.check()

    async def close(self) -> None:
        await self._database.close()


async def test_a_user_is_settled_once_another_process_has_sent_their_messages(
    database_url: SecretStr,
) -> None:
    recorder = FakeRecorder()
    recorder.open.clear()
    async with (
        running_stores(database_url, recorder) as theirs,
        running_stores(database_url, recorder) as ours,
    ):
        ids = await send(theirs, message("alice"))
        waiting = asyncio.create_task(ours.outbox.settled("alice"))
        await ours.outbox.settled("bob")
        await asyncio.sleep(0.1)
        assert not waiting.done()
        recorder.open.set()
        await waiting
        assert recorder.ids == ids


async def test_waiting_for_another_process_that_sends_polls_rarely(
    database_url: SecretStr,
) -> None:
    slow = FakeRecorder()
    slow.open.clear()
    async with running_stores(database_url, slow) as theirs, opened_stores(database_url) as ours:
        await send(theirs, message("alice"))
        await asyncio.sleep(0.2)
        watched = WatchedDatabase(ours.database)
        outbox = Outbox(watched, FakeRecorder().record)
        sending = asyncio.create_task(outbox.run())
        waiting = asyncio.create_task(outbox.settled("alice"))
        await asyncio.sleep(0.5)
        assert not waiting.done()
        assert 10 < watched.calls < 100
        slow.open.set()
        await asyncio.wait_for(waiting, 10)
        sending.cancel()
        await asyncio.wait([sending])


async def test_processes_that_send_at_once_send_each_message_once(
    database_url: SecretStr,
) -> None:
    recorder = FakeRecorder()
    async with (
        running_stores(database_url, recorder) as one,
        running_stores(database_url, recorder) as two,
        running_stores(database_url, recorder) as three,
    ):
        all_stores = (one, two, three)
        messages = [message(f"user{n % 5}") for n in range(150)]
        ids = await asyncio.gather(
            *(send(all_stores[n % 3], sent) for n, sent in enumerate(messages))
        )
        for n in range(5):
            await all_stores[n % 3].outbox.settled(f"user{n}")
    assert Counter(recorder.ids) == Counter(id_ for (id_,) in ids)


async def test_messages_left_by_a_process_are_sent_by_another(database_url: SecretStr) -> None:
    recorder = FakeRecorder()
    async with running_stores(database_url, recorder) as ours:
        async with opened_stores(database_url) as killed:
            ids = await send(killed, message(), message("bob"))
        # Also if nobody asks for it.
        await eventually(lambda: Counter(recorder.ids) == Counter(ids), timeout_s=10)
        await ours.outbox.settled("alice")


async def test_messages_that_a_process_was_sending_when_it_died_are_sent_by_another(
    database_url: SecretStr,
) -> None:
    never = FakeRecorder()
    never.open.clear()
    recorder = FakeRecorder()
    async with opened_stores(database_url, never) as dying:
        ids = await send(dying, message())
        sending = asyncio.create_task(dying.outbox.send_batch())
        await asyncio.sleep(0.2)
        async with running_stores(database_url, recorder) as ours:
            sending.cancel()
            await asyncio.wait([sending])
            await asyncio.wait_for(ours.outbox.settled("alice"), 10)
    assert recorder.ids == ids


async def test_a_stopped_message_that_is_answered_in_another_process_counts_once(
    database_url: SecretStr,
) -> None:
    recorder = FakeRecorder()
    sent = message()
    async with opened_stores(database_url) as killed, killed.locks.turn(sent.conversation):
        await killed.turns.keep(turn_of(sent, "ok", stopped=True))
    async with running_stores(database_url, recorder) as ours:
        ids = await send(ours, sent)
        await ours.outbox.settled("alice")
    # It may be sent before it is answered, and once more afterwards.
    assert {*recorder.ids} == {*ids}


async def test_a_message_that_analytics_refuses_is_left_alone_by_all_processes(
    database_url: SecretStr,
) -> None:
    recorder, other = FakeRecorder(), FakeRecorder()
    sent = message()
    recorder.refused = {uuid5(sent.message_id, "alice")}
    async with running_stores(database_url, recorder) as ours:
        await send(ours, sent)
        await ours.outbox.settled("alice")
        async with running_stores(database_url, other) as theirs:
            await theirs.outbox.settled("alice")
            await send(theirs, message("bob"))
            await theirs.outbox.settled("bob")
    assert uuid5(sent.message_id, "alice") not in other.ids
