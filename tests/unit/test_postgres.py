"""What PostgreSQL adds: replicas, migrations under a running system, an away or hung server."""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from itertools import batched
from uuid import UUID, uuid4

import pytest
from pydantic import SecretStr

from analytics_service.__main__ import open_store
from analytics_service.store import MessageBatch, SentMessage
from chat_service.outbox.outbox_rows import OutboxEntry
from chat_service.turns import postgres as chat
from chat_service.turns.leases import TurnLeases
from chat_service.turns.memory import ConversationKey, Memory, Turn
from chat_service.turns.stores import open_stores
from daca_shared.domain import Unavailable
from daca_shared.storage.postgres import PostgresDatabase
from lab.postgres import Cluster, run_sql
from tests.fakes import eventually

KEY = ConversationKey("alice", uuid4())
TURN = Turn(uuid4(), "hi", "ok", [])
LATER = "ALTER TABLE chat.outbox ADD COLUMN note text; ALTER TABLE chat.turns ADD COLUMN note text;"


@asynccontextmanager
async def opened(
    url: SecretStr, migrations: Sequence[str] = chat.MIGRATIONS
) -> AsyncIterator[PostgresDatabase]:
    database = await PostgresDatabase.open(url, "chat", migrations, timeout_s=0.5)
    try:
        yield database
    finally:
        await database.close()


async def works(database: PostgresDatabase) -> bool:
    """Whether a message can be accepted, and found again."""
    rows, id_ = chat.PostgresOutboxRows(database), uuid4()
    await rows.insert(OutboxEntry(0, id_, "alice", datetime.now(UTC), owner=1))
    return id_ in {entry.message_id for entry in await rows.own(1, after=0)}


async def test_replicas_that_start_at_once_migrate_once(database_url: SecretStr) -> None:
    async def start() -> None:
        async with opened(database_url) as database:
            assert await works(database)

    await asyncio.gather(*(start() for _ in range(5)))
    assert [tuple(row) for row in await run_sql(database_url, "TABLE version")] == [(2, 0)]


async def test_an_older_program_works_on_while_a_newer_one_migrates_and_after(
    database_url: SecretStr,
) -> None:
    async with opened(database_url, chat.MIGRATIONS[:1]) as old:
        assert await works(old)
        async with opened(database_url, [*chat.MIGRATIONS, LATER]) as new:
            assert await works(new)
            assert await works(old)
        # A downgrade starts it anew.
        async with opened(database_url) as older:
            assert await works(older)


async def test_a_schema_that_took_away_what_this_program_needs_is_refused(
    database_url: SecretStr,
) -> None:
    contract = "UPDATE chat.version SET oldest = 3"
    async with opened(database_url, [*chat.MIGRATIONS, contract]):
        with pytest.raises(Unavailable, match="needs version 3"):
            async with opened(database_url):
                pass


async def test_a_failed_migration_leaves_the_database_as_it_was(database_url: SecretStr) -> None:
    with pytest.raises(Unavailable):
        async with opened(database_url, [*chat.MIGRATIONS, "SELECT nonsense"]):
            pass
    async with opened(database_url) as database:
        assert await works(database)


async def test_replicas_count_the_same_messages_once_without_deadlocks(
    database_url: SecretStr,
) -> None:
    messages = [
        SentMessage(message_id=uuid4(), user_id=f"user{n % 7}", sent_time=datetime.now(UTC))
        for n in range(2000)
    ]
    forth = [MessageBatch(messages=group) for group in batched(messages, 100)]
    back = [MessageBatch(messages=group[::-1]) for group in batched(messages[::-1], 50)]
    stores = [await open_store(database_url, seed_demo_users=False) for _ in range(3)]
    counted = await asyncio.gather(
        *(store.record(batch) for batch in forth + back for store in stores)
    )
    assert sum(counted) == 2000
    counts = [(await stores[0].get(f"user{n}")).message_count for n in range(7)]
    assert counts == [len(messages[n::7]) for n in range(7)]
    days = [sum(d.message_count for d in await stores[1].activity(f"user{n}", 2)) for n in range(7)]
    assert days == counts
    for store in stores:
        await store.close()


async def test_one_turn_of_a_conversation_at_a_time_over_all_replicas(
    database_url: SecretStr,
) -> None:
    running = 0
    order: list[UUID] = []

    async def turn(memory: Memory) -> None:
        nonlocal running
        async with memory.turn(KEY):
            running += 1
            assert running == 1
            await asyncio.sleep(0.01)
            await memory.keep(KEY, one := Turn(uuid4(), "hi", "ok", []))
            order.append(one.message_id)
            running -= 1

    async with open_stores(database_url) as a, open_stores(database_url) as b:
        await asyncio.gather(*(turn(stores.memory) for stores in [a, b] * 10))
        kept = await b.archive.messages(KEY, after=0, limit=100)
    assert [message.message_id for message in kept] == order


async def test_a_lease_lasts_while_its_holder_lives_and_a_few_seconds_longer(
    database_url: SecretStr,
) -> None:
    async with opened(database_url) as database:
        dead, alive, other = (TurnLeases(database, holder) for holder in range(3))
        assert await dead.try_lock(KEY)
        elsewhere = ConversationKey("bob", uuid4())
        assert await alive.try_lock(elsewhere)
        renewing = asyncio.create_task(alive.run())
        began = time.monotonic()
        await eventually(lambda: other.try_lock(KEY))
        assert 2 < time.monotonic() - began < 4
        assert not await other.try_lock(elsewhere)
        renewing.cancel()
        alive.unlock(elsewhere)
        await alive.close()
        assert await other.try_lock(elsewhere)
        with pytest.raises(Unavailable, match="gone on without"):
            await chat.PostgresArchive(database, 0).add(KEY, TURN, title="hi")
        await other.close()


async def test_nothing_is_written_without_the_lease_and_nobody_waits_for_a_turn_that_gave_up(
    database_url: SecretStr,
) -> None:
    async with open_stores(database_url) as a, open_stores(database_url) as b:
        async with a.memory.turn(KEY):
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.1), b.memory.turn(KEY):
                    pass
            await a.memory.keep(KEY, TURN)
        async with asyncio.timeout(1), b.memory.turn(KEY):
            pass
        with pytest.raises(Unavailable):
            await b.memory.keep(ConversationKey("bob", KEY.session_id), TURN)


@pytest.mark.parametrize("mode", ["fast", "immediate"])
async def test_a_restart_of_the_server_costs_the_time_that_it_takes(
    postgres: Cluster, database_url: SecretStr, mode: str
) -> None:
    async with opened(database_url) as database:
        assert await works(database)
        with postgres.down(mode):
            with pytest.raises(Unavailable, match="try again later"):
                await works(database)
            with pytest.raises(Unavailable, match="can't be used"):
                async with opened(database_url):
                    pass
        assert await works(database)


async def test_a_hung_server_is_given_up_in_time_and_works_again(
    postgres: Cluster, database_url: SecretStr
) -> None:
    async with opened(database_url) as database:
        assert await works(database)
        began = time.monotonic()
        with postgres.hung():
            outcomes = await asyncio.gather(
                *(database.read("SELECT 1") for _ in range(30)), return_exceptions=True
            )
        assert {type(outcome) for outcome in outcomes} == {Unavailable}
        assert time.monotonic() - began < 2
        assert await works(database)


async def test_errors_do_not_tell_callers_about_the_database(database_url: SecretStr) -> None:
    async with opened(database_url) as database:
        with pytest.raises(Unavailable) as failure:
            await database.read("SELECT * FROM no_such_table")
    assert "no_such_table" not in str(failure.value)


async def test_a_start_without_a_server_does_not_tell_the_password() -> None:
    url = SecretStr("postgresql://user:hunter2@127.0.0.1:1/nowhere")
    with pytest.raises(Unavailable) as failure:
        async with opened(url):
            pass
    assert "hunter2" not in str(failure.value)
