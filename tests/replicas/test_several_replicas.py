"""Two processes of each service on one PostgreSQL, without sidecars."""

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import suppress
from functools import partial
from typing import Any
from uuid import uuid4

import httpx2
import pytest
import pytest_asyncio

from lab.postgres import Cluster
from lab.processes import Processes
from lab.stack import eventually
from tests.fault_table import PAUSE_S

pytestmark = pytest.mark.asyncio(loop_scope="module")


class Replicas(Processes):
    """Two replicas of each service, and a client for them."""

    async def say(self, replica: int, user_id: str, **fields: Any) -> dict[str, Any]:
        """Chat, and retry on alternating replicas until there is an answer."""
        body = {"user_id": user_id, "text": "Hello", "message_id": str(uuid4()), **fields}
        async with asyncio.timeout(30):
            while True:
                with suppress(httpx2.TransportError):
                    answer = await self.client.post(f"{self.urls[replica]}/chat/", json=body)
                    if answer.status_code == 200:
                        found: dict[str, Any] = answer.json()
                        return found
                    assert answer.status_code == 503, answer.text
                await asyncio.sleep(0.1)
                replica = 1 - replica

    async def get(self, replica: int, path: str) -> Any:
        with suppress(httpx2.TransportError):
            answer = await self.client.get(self.urls[replica] + path)
            return answer.json() if answer.status_code == 200 else None

    async def count(self, user_id: str) -> int | None:
        body = await self.get(1, f"/users/{user_id}/analytics")
        return body["message_count"] if body else None


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def replicas(
    tmp_path_factory: pytest.TempPathFactory, postgres: Cluster
) -> AsyncIterator[Replicas]:
    url = await postgres.new_database()
    replicas = Replicas(tmp_path_factory.mktemp("replicas"), url, count=2)
    async with replicas.running():
        yield replicas


async def test_counts_are_exact_and_turns_in_order_whichever_replica_answers(
    replicas: Replicas,
) -> None:

    async def change_between_replicas(user_id: str) -> None:
        for n in range(30):
            answer = await replicas.say(n % 2, user_id)
            # Never a wrong count, but none if the machine is too busy to get it in time.
            assert answer["message_count"] in (n, None)

    async def speak_at_once(user_id: str) -> None:
        where = {"metadata": {"session_id": (session_id := str(uuid4()))}}
        answers = await asyncio.gather(*(replicas.say(n % 2, user_id, **where) for n in range(30)))
        page = await replicas.get(0, f"/conversations/{session_id}?user_id={user_id}")
        order = [message["message_id"] for message in page["messages"]]
        counts = {answer["message_id"]: answer["message_count"] for answer in answers}
        assert len(order) == 30
        assert all(counts[id_] in (n, None) for n, id_ in enumerate(order))
        assert sum(count is not None for count in counts.values()) > 20

    users = [str(uuid4()) for _ in range(8)]
    await asyncio.gather(
        *(change_between_replicas(user_id) for user_id in users[:6]),
        *(speak_at_once(user_id) for user_id in users[6:]),
    )
    for user_id in users:
        await eventually(partial(replicas.count, user_id), 30)


async def test_killed_replicas_and_a_crash_of_postgresql_lose_and_double_no_count(
    replicas: Replicas, postgres: Cluster
) -> None:
    users = {str(uuid4()): 0 for _ in range(12)}
    done = asyncio.Event()

    async def keep_chatting(user_id: str) -> None:
        where = {"metadata": {"session_id": str(uuid4())}}
        while not done.is_set():
            await replicas.say(users[user_id] % 2, user_id, **where)
            users[user_id] += 1
            await asyncio.sleep(PAUSE_S)

    async with asyncio.TaskGroup() as group:
        for user_id in users:
            group.create_task(keep_chatting(user_id))
        await asyncio.sleep(0.5)
        for service in (replicas.chats[0], replicas.analytics[1]):
            await service.stop(signal.SIGKILL)
        await asyncio.sleep(1)
        for service in (replicas.chats[0], replicas.analytics[1]):
            await service.start()
        await eventually(replicas.serve, expected=True, timeout_s=60)
        for mode in ("fast", "immediate"):
            with postgres.down(mode):
                await asyncio.sleep(0.5)
            await asyncio.sleep(0.5)
        done.set()
    assert min(users.values()) > 0
    for user_id, sent in users.items():
        await eventually(partial(replicas.count, user_id), sent)
    assert all(service.ending() == "" for service in replicas.all)
