"""A conversation has one turn at a time, across all replicas on one PostgreSQL."""

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from uuid import UUID, uuid4

import pytest
from pydantic import SecretStr

from chat_service.app import SCHEMA
from chat_service.chat.messages import ChatMessage, ConversationKey, Turn
from chat_service.turns.leases import TurnLeases, TurnLocks
from chat_service.turns.store import TurnStore
from daca_shared.domain import Unavailable
from daca_shared.storage.database import read_scripts
from daca_shared.storage.postgres import PostgresDatabase
from lab.postgres import Cluster, connected, run_sql
from tests.chats import SESSION, SlowAgent, chatting
from tests.fakes import ChatStores, eventually, opened_stores, turn_of

KEY = ConversationKey("alice", SESSION)
OTHER = ConversationKey("bob", SESSION)


def turn(key: ConversationKey = KEY) -> Turn:
    return turn_of(ChatMessage(user_id=key.user_id, text="hi", session_id=key.session_id), "ok")


@asynccontextmanager
async def renewing(leases: TurnLeases) -> AsyncIterator[None]:
    task = asyncio.create_task(leases.renew_for_ever())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])


async def can_take(locks: TurnLocks, key: ConversationKey = KEY, *, within_s: float = 0.3) -> bool:
    try:
        async with asyncio.timeout(within_s), locks.turn(key):
            return True
    except TimeoutError:
        return False


@pytest.fixture
async def stores(database_url: SecretStr) -> AsyncIterator[ChatStores]:
    async with opened_stores(database_url) as stores:
        yield stores


async def test_turns_of_a_conversation_are_kept_in_their_order(database_url: SecretStr) -> None:
    running = 0
    order: list[UUID] = []

    async def take(stores: ChatStores) -> None:
        nonlocal running
        async with stores.locks.turn(KEY):
            running += 1
            assert running == 1
            await asyncio.sleep(0.01)
            order.append((await stores.turns.keep(turn())).message_id)
            running -= 1

    async with opened_stores(database_url) as a, opened_stores(database_url) as b:
        await asyncio.gather(*(take(stores) for stores in [a, b] * 10))
        kept = await b.messages(KEY)
    assert [turn.message_id for turn in kept] == order


async def test_a_lease_lasts_while_its_holder_lives_and_a_few_seconds_longer(
    stores: ChatStores,
) -> None:
    dead, alive, other = (TurnLeases(stores.database) for _ in range(3))
    async with renewing(alive), alive.turn(OTHER):
        async with dead.turn(KEY):
            began = time.monotonic()
            assert await can_take(other, within_s=10)
            assert time.monotonic() - began > 2
            assert not await can_take(other, OTHER)
            # It can no longer keep the turn that it had begun.
            late = TurnStore(stores.database, stores.outbox, dead)
            with pytest.raises(Unavailable, match="gone on without"):
                await late.keep(turn())
        assert not await can_take(other, OTHER)
    assert await can_take(other, OTHER)
    assert await stores.turns.latest(KEY) == []
    assert (await stores.outbox.backlog())[0] == 0


async def test_a_turn_that_gave_up_waiting_blocks_nobody(stores: ChatStores) -> None:
    a, b = (TurnLeases(stores.database) for _ in range(2))
    async with a.turn(KEY):
        assert not await can_take(b, within_s=0.1)
    assert await can_take(b)
    assert await can_take(a)


async def test_nothing_is_kept_without_the_lease(stores: ChatStores) -> None:
    async with stores.locks.turn(KEY):
        with pytest.raises(Unavailable):
            await stores.turns.keep(turn(OTHER))
    with pytest.raises(Unavailable):
        await stores.turns.keep(turn(KEY))
    assert (await stores.outbox.backlog())[0] == 0


async def test_nothing_is_deleted_without_the_lease(stores: ChatStores) -> None:
    async with stores.locks.turn(KEY):
        await stores.turns.keep(turn(KEY))
    with pytest.raises(Unavailable) as told:
        await stores.turns.delete(KEY)
    assert told.value.code == "CONVERSATION_WENT_ON"
    assert len(await stores.turns.latest(KEY)) == 1


async def test_a_reply_whose_lease_was_lost_is_refused_and_may_be_sent_again(
    database_url: SecretStr,
) -> None:
    agent = SlowAgent()
    sent = ChatMessage(user_id="alice", text="hi", session_id=SESSION, message_id=uuid4())
    async with chatting(database_url, agent) as here, chatting(database_url, agent) as there:
        replying = asyncio.create_task(here.conversation.reply(sent))
        await eventually(lambda: len(agent.running) == 1)
        # As if this replica had stalled for seconds.
        await run_sql(database_url, "UPDATE leases SET end_time = now() - interval '1 minute'")
        elsewhere = asyncio.create_task(there.say("meanwhile"))
        await eventually(lambda: len(agent.running) == 2)
        agent.go.set()
        assert await elsewhere == "answer 2"
        with pytest.raises(Unavailable, match="gone on without this reply"):
            await replying
        assert [turn.prompt for turn in await here.history()] == ["meanwhile"]
        assert (await here.conversation.reply(sent)).answer.text == "answer 3"
        assert [turn.prompt for turn in await here.history()] == ["meanwhile", "hi"]


async def test_a_lease_that_could_not_be_released_expires_while_its_holder_lives(
    postgres: Cluster, stores: ChatStores
) -> None:
    mine, other = (TurnLeases(stores.database) for _ in range(2))
    async with renewing(mine):
        with ExitStack() as down:
            async with mine.turn(KEY), mine.turn(OTHER):
                down.enter_context(postgres.down("fast"))
        # The holder may continue at once, others when the lease has ended.
        assert await can_take(mine)
        async with mine.turn(ConversationKey("carol", SESSION)):
            assert await can_take(other, OTHER, within_s=5)


async def test_a_turn_whose_commit_hangs_costs_nobody_else_a_lease(
    database_url: SecretStr, stores: ChatStores
) -> None:
    mine, other = (TurnLeases(stores.database) for _ in range(2))
    async with (
        renewing(mine), mine.turn(KEY), mine.turn(OTHER),
        connected(database_url) as hung, hung.transaction(),
    ):  # fmt: skip
        await hung.fetch("SELECT holder FROM chat.leases WHERE user_id = 'alice' FOR SHARE")
        assert not await can_take(other, OTHER, within_s=6.5)


async def test_waiting_for_a_lease_locks_nothing(
    database_url: SecretStr, stores: ChatStores
) -> None:
    """A lease that is locked is not renewed."""
    mine, other = (TurnLeases(stores.database) for _ in range(2))
    async with mine.turn(KEY), connected(database_url) as locked, locked.transaction():
        await locked.fetch("SELECT holder FROM chat.leases FOR UPDATE")
        waiting = asyncio.create_task(can_take(other, within_s=1))
        await asyncio.sleep(0.5)
        assert await run_sql(database_url, "SELECT pid FROM pg_locks WHERE NOT granted") == []
        assert not await waiting


async def test_a_lease_is_renewed_although_a_connection_hangs(
    database_url: SecretStr, stores: ChatStores
) -> None:
    mine = TurnLeases(stores.database)
    ours = (
        "SELECT pid FROM pg_stat_activity "
        "WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )
    async with mine.turn(KEY):
        ((pid,),) = await run_sql(database_url, ours)
        async with renewing(mine), opened_stores(database_url) as others:
            await asyncio.sleep(0.3)  # it first deletes old ones
            os.kill(pid, signal.SIGSTOP)
            try:
                assert not await can_take(others.locks, within_s=4)
            finally:
                os.kill(pid, signal.SIGCONT)


async def test_a_reply_outlives_a_crash_of_postgresql(
    postgres: Cluster, database_url: SecretStr, stores: ChatStores
) -> None:
    async with stores.locks.turn(KEY):
        # PostgreSQL itself writes it to the disk within a second.
        await run_sql(database_url, "CHECKPOINT")
        with postgres.down("immediate"):
            pass
        await asyncio.sleep(0.1)  # our connections have to notice
        assert (await stores.turns.keep(turn())).answer.text == "ok"


async def test_leases_that_dead_replicas_have_left_are_deleted(
    database_url: SecretStr, stores: ChatStores
) -> None:
    await run_sql(
        database_url,
        "INSERT INTO chat.leases SELECT 'alice', gen_random_uuid(), n, now() - n * interval "
        "'40 minutes' FROM generate_series(1, 2) AS n",
    )

    async def left() -> bool:
        return len(await stores.database.read("SELECT holder FROM chat.leases")) == 1

    assert not await left()
    async with renewing(TurnLeases(stores.database)):
        await eventually(left)


async def test_a_lease_from_before_the_clock_was_set_back_blocks_nobody(
    database_url: SecretStr, stores: ChatStores
) -> None:
    async with TurnLeases(stores.database).turn(KEY):
        await run_sql(database_url, "UPDATE chat.leases SET end_time = end_time + interval '1 h'")
        assert await can_take(stores.locks)


async def test_a_lease_that_a_hung_server_cannot_give_is_not_released(
    postgres: Cluster, database_url: SecretStr
) -> None:
    class Impatient(PostgresDatabase):
        timeout_s = 2.5

    scripts = read_scripts(SCHEMA / "postgres")
    database = await Impatient.open(database_url, "chat", scripts)
    began = time.monotonic()
    with postgres.hung(), pytest.raises(Unavailable):
        async with TurnLeases(database).turn(KEY):
            pass
    assert time.monotonic() - began < 4.9
    await database.close()
