"""Calls of one client end, whatever it sends or leaves unread, and don't starve other clients."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import Any

import pytest
from grpc import StatusCode, aio
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2

from chat_service.grpc.servicer import ChatServicer
from daca.analytics.v1 import analytics_pb2
from daca.chat.v1 import chat_pb2 as pb
from daca.chat.v1 import chat_pb2_grpc as pb_grpc
from daca_shared.calls.errors import Context
from daca_shared.calls.server import GrpcServer
from tests.fakes import FREE, FakeChat, Shouting, channel_to, eventually, listening
from tests.grpc.refusals import refusal, send_bytes

WATCHES, MAX_CALLS = 64, 1024
PING_OFTEN = [
    ("grpc.keepalive_time_ms", 1500),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
]


@pytest.fixture
async def impatient(chat_servicer: ChatServicer) -> AsyncIterator[GrpcServer]:
    """A server with a short timeout for calls."""
    server = GrpcServer(timeout_s=0.5)
    server.add(pb_grpc.add_ChatServiceServicer_to_server, chat_servicer)
    async with listening(server):
        yield server


async def nothing() -> AsyncIterator[bytes]:
    await asyncio.Event().wait()
    yield b""


async def test_an_unread_stream_ends_and_frees_its_place(
    impatient: GrpcServer, chat: FakeChat
) -> None:
    chat.conversation.agent = Shouting()
    async with channel_to(impatient) as channel:
        request = pb.ChatStreamRequest(user_id="alice", text="hi")
        await anext(aiter(pb_grpc.ChatServiceStub(channel).ChatStream(request)))
        assert chat.admission.chats == 1
        await eventually(lambda: chat.admission.chats == 0)


@asynccontextmanager
async def calls_of_one_client(
    server: GrpcServer, path: str, requests: Callable[[], AsyncIterator[bytes]]
) -> AsyncIterator[None]:
    """More calls, on two connections, than there may be at once."""
    # Each stream takes only 64 KB before it is read.
    alone: Any = [("grpc.use_local_subchannel_pool", 1), ("grpc.http2.bdp_probe", 0)]
    async with AsyncExitStack() as channels:
        for _ in range(2):
            channel: Any = aio.insecure_channel(f"127.0.0.1:{server.port}", options=alone)
            await channels.enter_async_context(channel)
            calls = [channel.stream_stream(path)(requests()) for _ in range(700)]
            waits = (call.wait_for_connection() for call in calls)
            await asyncio.gather(*waits, return_exceptions=True)
        yield


async def one_question() -> AsyncIterator[bytes]:
    yield reflection_pb2.ServerReflectionRequest(list_services="").SerializeToString()
    await asyncio.Event().wait()


async def is_healthy(server: GrpcServer) -> bool:
    async with channel_to(server) as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)
        try:
            return bool((await stub.Check(health_pb2.HealthCheckRequest())).status)
        except aio.AioRpcError:  # grpc itself refuses calls that come too fast
            return False


async def is_served(server: GrpcServer) -> bool:
    async with channel_to(server) as channel:
        stub = pb_grpc.ChatServiceStub(channel)
        try:
            await stub.Chat(pb.ChatRequest(user_id="alice", text="hi"), timeout=5)
        except aio.AioRpcError:
            return False
    return await is_healthy(server)


REFLECTION = "grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"


@pytest.mark.parametrize(
    ("path", "requests"),
    [
        ("daca.chat.v1.ChatService/Chat", nothing),
        ("daca.chat.v1.ChatService/ChatStream", nothing),
        ("daca.chat.v1.ChatService/NoSuchMethod", nothing),
        ("grpc.health.v1.Health/Check", nothing),
        (REFLECTION, nothing),
        (REFLECTION, one_question),
    ],
)
async def test_calls_that_wait_for_their_client_do_not_keep_others_out(
    chat_server: GrpcServer, path: str, requests: Callable[[], AsyncIterator[bytes]]
) -> None:
    async with calls_of_one_client(chat_server, f"/{path}", requests):
        await eventually(partial(is_served, chat_server))


class Busy(ChatServicer):
    """Never answers a chat, or without end."""

    calls = 0

    async def Chat(self, request: pb.ChatRequest, context: Context) -> pb.ChatResponse:
        self.calls += 1
        return await asyncio.Future[pb.ChatResponse]()

    async def ChatStream(
        self, request: pb.ChatStreamRequest, context: Context
    ) -> AsyncIterator[pb.ChatStreamResponse]:
        self.calls += 1
        while True:
            yield pb.ChatStreamResponse(reply_delta="x" * 100_000)


@pytest.fixture
def busy(chat: FakeChat) -> Busy:
    return Busy(chat.conversation, chat.turns, chat.admission, **FREE)


@pytest.fixture
async def busy_server(busy: Busy) -> AsyncIterator[GrpcServer]:
    server = GrpcServer()
    server.add(pb_grpc.add_ChatServiceServicer_to_server, busy)
    async with listening(server):
        yield server


@asynccontextmanager
async def filled(server: GrpcServer, busy: Busy, method: str) -> AsyncIterator[None]:
    """As many calls as may be at once. grpc itself refuses some that come too fast."""
    async with AsyncExitStack() as stack:
        while busy.calls < MAX_CALLS:
            path = f"/daca.chat.v1.ChatService/{method}"
            await stack.enter_async_context(calls_of_one_client(server, path, one_chat))
            await asyncio.sleep(0.3)
        yield


async def one_chat() -> AsyncIterator[bytes]:
    yield pb.ChatRequest(user_id="alice", text="hi").SerializeToString()


async def test_streams_that_their_client_does_not_read_do_not_keep_others_out(
    busy: Busy, busy_server: GrpcServer
) -> None:
    async def is_listed() -> bool:
        async with channel_to(busy_server) as channel:
            request = pb.ListConversationsRequest(user_id="alice")
            try:
                await pb_grpc.ChatServiceStub(channel).ListConversations(request)
            except aio.AioRpcError:  # grpc itself refuses calls that come too fast
                return False
        return await is_healthy(busy_server)

    async with filled(busy_server, busy, "ChatStream"):
        await eventually(is_listed)


async def test_health_is_told_even_while_as_many_calls_are_made_as_may_be(
    busy: Busy, busy_server: GrpcServer
) -> None:
    async with filled(busy_server, busy, "Chat"):
        async with channel_to(busy_server) as channel:
            request = pb.ListConversationsRequest(user_id="alice")
            refused = await refusal(pb_grpc.ChatServiceStub(channel).ListConversations(request))
        assert refused.reasons == ["daca/LIMIT_REACHED"]
        assert await is_healthy(busy_server)


async def test_health_watches_are_limited_and_leave_room_for_calls(
    chat_channel: aio.Channel,
) -> None:
    untyped: Any = chat_channel
    stub: Any = health_pb2_grpc.HealthStub(chat_channel)
    silent = [untyped.stream_stream("/grpc.health.v1.Health/Watch")(nothing()) for _ in range(9)]
    watches = [stub.Watch(health_pb2.HealthCheckRequest()) for _ in range(WATCHES - len(silent))]
    for watch in watches:
        assert (await anext(aiter(watch))).status == health_pb2.HealthCheckResponse.SERVING
    more = [stub.Watch(health_pb2.HealthCheckRequest()) for _ in range(1500)]
    refused = await asyncio.gather(*(refusal(anext(aiter(watch))) for watch in more))
    # grpc itself refuses those that come too fast.
    assert {each.code for each in refused} <= {
        StatusCode.RESOURCE_EXHAUSTED,
        StatusCode.UNAVAILABLE,
    }
    ours = [each for each in refused if each.code is StatusCode.RESOURCE_EXHAUSTED]
    assert {(*each.reasons, each.retry_after_s) for each in ours} == {("daca/LIMIT_REACHED", 1)}
    assert (await stub.Check(health_pb2.HealthCheckRequest())).status == 1
    reply = await pb_grpc.ChatServiceStub(chat_channel).Chat(
        pb.ChatRequest(user_id="alice", text="hi")
    )
    assert reply.reply == "You said: hi"
    for watch in (watches[0], silent[0]):
        watch.cancel()

    async def watches_again() -> bool:
        try:
            await anext(aiter(stub.Watch(health_pb2.HealthCheckRequest())))
        except aio.AioRpcError:
            return False
        return True

    await eventually(watches_again)


async def test_a_client_may_send_frequent_keepalive_pings_while_a_model_thinks(
    chat_server: GrpcServer, chat: FakeChat
) -> None:
    chat.agent.delay_s = 4.8
    address = f"127.0.0.1:{chat_server.port}"
    async with aio.insecure_channel(address, options=PING_OFTEN) as channel:
        # Also before its first call.
        await asyncio.wait_for(channel.channel_ready(), 5)
        await asyncio.sleep(5)
        stub = pb_grpc.ChatServiceStub(channel)
        request = pb.ChatStreamRequest(user_id="alice", text="hi")
        *_, last = [event async for event in stub.ChatStream(request)]
    assert last.completed.reply == "You said: hi"


async def test_a_request_that_is_too_long_is_not_even_decoded(
    analytics_channel: aio.Channel,
) -> None:
    path = "/daca.analytics.v1.AnalyticsService/RecordMessages"
    refused = await refusal(send_bytes(analytics_channel, path, b"\xff" * ((1 << 20) + 1)))
    assert refused.code is StatusCode.INVALID_ARGUMENT
    assert refused.details == "The request is longer than 1048576 bytes"


async def test_none_of_too_many_messages_is_checked(analytics_channel: aio.Channel) -> None:
    path = "/daca.analytics.v1.AnalyticsService/RecordMessages"
    bad = analytics_pb2.SentMessage(message_id="no UUID")
    request = analytics_pb2.RecordMessagesRequest(messages=[bad] * 1001)
    refused = await refusal(send_bytes(analytics_channel, path, request.SerializeToString()))
    assert refused.code is StatusCode.INVALID_ARGUMENT
    assert refused.details == "messages: must be 1 to 1000 messages"
