"""Servicer methods with grpcio-testing's clock. It doesn't support asyncio and would treat a
coroutine as the answer, so each method is run on the test's own loop."""

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

import grpc_testing
import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from grpc import StatusCode

from analytics_service.servicer import AnalyticsServicer
from analytics_service.store import AnalyticsStore
from chat_service.chat.conversation import Conversation
from chat_service.chat.messages import ChatMessage, Turn
from chat_service.grpc.servicer import ChatServicer
from chat_service.turns.leases import TurnLocks
from daca.analytics.v1 import analytics_pb2
from daca.chat.v1 import chat_pb2
from tests.fakes import FOREVER_S, FREE, FakeChat, eventually

ANALYTICS = analytics_pb2.DESCRIPTOR.services_by_name["AnalyticsService"]
CHAT = chat_pb2.DESCRIPTOR.services_by_name["ChatService"]


class OnLoop:
    """Makes an async servicer a synchronous one, which grpcio-testing can call."""

    def __init__(self, servicer: Any) -> None:
        self._servicer = servicer
        self._loop = asyncio.get_running_loop()

    def __getattr__(self, name: str) -> Callable[[Any, Any], Any]:
        method = getattr(self._servicer, name)
        return lambda request, context: asyncio.run_coroutine_threadsafe(
            method(request, context), self._loop
        ).result()


class Called:
    """A server of one service, with a clock that the test advances."""

    def __init__(self, service: Any, servicer: Any) -> None:
        self.clock = grpc_testing.strict_fake_time(1_000.0)
        self._service = service
        self._server = grpc_testing.server_from_dictionary({service: OnLoop(servicer)}, self.clock)

    def begin(self, method: str, request: Any, timeout_s: float | None = None) -> Any:
        descriptor = self._service.methods_by_name[method]
        return self._server.invoke_unary_unary(descriptor, (), request, timeout_s)

    async def __call__(
        self, method: str, request: Any, timeout_s: float | None = None
    ) -> tuple[Any, StatusCode]:
        rpc = self.begin(method, request, timeout_s)
        response, _, code, _ = await asyncio.to_thread(rpc.termination)
        return response, code


class WatchedConversation(Conversation):
    """Records the deadlines that it gets."""

    def __init__(self, chat: FakeChat) -> None:
        super().__init__(
            chat.counts, chat.turns, TurnLocks(), chat.agent, max_text_length=100, timeout_s=60
        )
        self.timeouts_s: list[float | None] = []

    async def reply(self, message: ChatMessage, *, timeout_s: float | None = None) -> Turn:
        self.timeouts_s.append(timeout_s)
        return await super().reply(message, timeout_s=timeout_s)


def calling(chat: FakeChat, conversation: WatchedConversation) -> Called:
    return Called(CHAT, ChatServicer(conversation, chat.turns, chat.admission, **FREE))


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[AnalyticsStore]:
    store = await AnalyticsStore.open(tmp_path / "analytics.db", seed_demo_users=True)
    yield store
    await store.database.close()


async def test_get_analytics_answers_from_the_store(store: AnalyticsStore) -> None:
    call = Called(ANALYTICS, AnalyticsServicer(store))
    response, code = await call("GetAnalytics", analytics_pb2.GetAnalyticsRequest(user_id="bob"))
    assert code is StatusCode.OK
    assert response == analytics_pb2.GetAnalyticsResponse(
        analytics=analytics_pb2.UserAnalytics(user_id="bob", message_count=3)
    )


async def test_record_messages_really_records(store: AnalyticsStore) -> None:
    call = Called(ANALYTICS, AnalyticsServicer(store))
    request = analytics_pb2.RecordMessagesRequest()
    request.messages.add(message_id=str(uuid4()), user_id="bob", sent_time=Timestamp(seconds=1))
    answers = [await call("RecordMessages", request) for _ in range(2)]
    assert [(response.counted, code) for response, code in answers] == [
        (1, StatusCode.OK),
        (0, StatusCode.OK),
    ]
    assert (await store.get("bob")).message_count == 4


@pytest.mark.parametrize("timeout_s", [None, 12.5])
async def test_chat_passes_the_callers_deadline_on(timeout_s: float | None) -> None:
    chat = FakeChat()
    conversation = WatchedConversation(chat)
    call = calling(chat, conversation)
    request = chat_pb2.ChatRequest(user_id="alice", text="hi", tags=["a"])
    response, code = await call("Chat", request, timeout_s)
    assert code is StatusCode.OK
    assert (response.reply, response.message_count, response.tags) == ("You said: hi", 5, ["a"])
    assert conversation.timeouts_s == [timeout_s]
    assert [str(turn.message_id) for turn in chat.turns.kept] == [response.message_id]


async def test_a_call_ends_at_its_deadline_though_the_agent_goes_on() -> None:
    chat = FakeChat()
    chat.agent.delay_s = 0.1
    call = calling(chat, WatchedConversation(chat))
    rpc = call.begin("Chat", chat_pb2.ChatRequest(user_id="alice", text="hi"), FOREVER_S)
    await eventually(lambda: chat.agent.counts)
    await asyncio.to_thread(call.clock.sleep_for, FOREVER_S + 1)
    *_, code, _ = await asyncio.to_thread(rpc.termination)
    assert code is StatusCode.DEADLINE_EXCEEDED
    await eventually(lambda: chat.turns.kept)
