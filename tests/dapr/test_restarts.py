"""A conversation over HTTP and gRPC, with a restart in between, on the whole system."""

import asyncio
import signal
from typing import Any
from uuid import uuid4

import pytest
from grpc import aio

from daca.chat.v1 import chat_pb2, chat_pb2_grpc
from lab.stack import RunningStack, http

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def say(system: RunningStack, user_id: str, session_id: str, text: str) -> Any:
    body = {"user_id": user_id, "text": text, "metadata": {"session_id": session_id}}
    status, answer = await asyncio.to_thread(http, "POST", f"{system.url}/chat/", body)
    assert status == 200
    return answer["reply"]


async def test_a_third_turn_refers_back_to_the_first_over_http_grpc_and_a_restart(
    system: RunningStack,
) -> None:
    user_id, session_id = f"user-{uuid4()}", str(uuid4())
    await say(system, user_id, session_id, "My dog is called Rex")

    service = system.stack.services[system.chat]
    await service.stop(signal.SIGKILL)
    await service.start()
    await system.wait_until_ready()

    async with aio.insecure_channel(f"127.0.0.1:{service.ports['gRPC']}") as channel:
        stub = chat_pb2_grpc.ChatServiceStub(channel)
        request = chat_pb2.ChatRequest(
            user_id=user_id, session_id=session_id, text="What did I say first?"
        )
        assert "My dog is called Rex" in (await stub.Chat(request)).reply
        listed = await stub.ListMessages(
            chat_pb2.ListMessagesRequest(user_id=user_id, session_id=session_id)
        )
        assert [message.text for message in listed.messages] == [
            "My dog is called Rex",
            "What did I say first?",
        ]

    assert "My dog is called Rex" in await say(system, user_id, session_id, "And first of all?")
    assert "Rex" not in await say(system, "somebody else", session_id, "What did I say first?")
    url = f"{system.url}/conversations?user_id={user_id}"
    _, past = await asyncio.to_thread(http, "GET", url)
    assert [(c["title"], c["turn_count"]) for c in past["conversations"]] == [
        ("My dog is called Rex", 3)
    ]
