"""Calls that wait for their client: they end with a status, and make room for others."""

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
from daca.chat.v1 import chat_pb2 as pb
from daca.chat.v1 import chat_pb2_grpc as pb_grpc
from daca_shared.calls.errors import Context
from daca_shared.calls.server import GrpcServer
from tests.fakes import FREE, FakeChat, Shouting, channel_to, eventually
from tests.grpc.conftest import nothing, serving
from tests.grpc.refusals import refusal
from tests.reports import reported, total

MAX_CALLS = 64
# On a machine that is busy, many calls take seconds.
PATIENCE_S = 30
LOGGER = "daca_shared.calls.wrap"
COUNT = "rpc_server_call_duration_seconds_count"
CHAT = "/daca.chat.v1.ChatService/Chat"
A_CHAT = pb.ChatRequest(user_id="alice", text="hi")
A_LIST = pb.ListConversationsRequest(user_id="alice")
# Each stream takes only 64 KB before it is read.
ALONE: Any = [("grpc.use_local_subchannel_pool", 1), ("grpc.http2.bdp_probe", 0)]


@pytest.fixture
async def impatient(chat_servicer: ChatServicer) -> AsyncIterator[GrpcServer]:
    """A server with a short timeout for calls."""
    async with serving(chat_servicer, timeout_s=0.5) as server:
        yield server


@pytest.fixture
async def small_server(chat_servicer: ChatServicer) -> AsyncIterator[GrpcServer]:
    async with serving(chat_servicer, max_calls=MAX_CALLS) as server:
        yield server


async def test_a_call_whose_request_does_not_come_ends_with_a_status(impatient: GrpcServer) -> None:
    with reported() as report:
        async with channel_to(impatient) as channel:
            untyped: Any = channel
            refused = await refusal(anext(aiter(untyped.stream_stream(CHAT)(nothing()))))
        await eventually(lambda: report.of(LOGGER))
    assert refused.code is StatusCode.DEADLINE_EXCEEDED
    assert refused.details == "The call took too long"
    assert refused.reasons == ["daca/TIMED_OUT"]
    (line,) = report.of(LOGGER)
    assert line["code"] == "DEADLINE_EXCEEDED"


async def test_a_health_watch_lasts_longer_than_any_call(impatient: GrpcServer) -> None:
    async with channel_to(impatient) as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)
        watch = stub.Watch(health_pb2.HealthCheckRequest())
        assert (await watch.read()).status == health_pb2.HealthCheckResponse.SERVING
        await asyncio.sleep(0.8)
        assert not watch.done()


async def test_a_call_without_a_request_is_refused(impatient: GrpcServer) -> None:
    async with channel_to(impatient) as channel:
        untyped: Any = channel
        refused = await refusal(anext(aiter(untyped.stream_stream(CHAT)(iter(())))))
    assert refused.code is StatusCode.INVALID_ARGUMENT
    assert refused.details == "The request is missing"


async def test_an_unread_stream_ends_and_frees_its_place(
    impatient: GrpcServer, chat: FakeChat
) -> None:
    chat.conversation.agent = Shouting()
    async with aio.insecure_channel(f"127.0.0.1:{impatient.port}", options=ALONE) as channel:
        request = pb.ChatStreamRequest(user_id="alice", text="hi")
        events = aiter(pb_grpc.ChatServiceStub(channel).ChatStream(request))
        await anext(events)
        assert chat.admission.chats == 1
        await eventually(lambda: chat.admission.chats == 0)
        refused = await refusal(to_the_end(events))
    assert refused.code is StatusCode.DEADLINE_EXCEEDED


async def test_a_caller_who_leaves_is_no_error(busy_server: GrpcServer) -> None:
    with reported() as report:
        async with aio.insecure_channel(f"127.0.0.1:{busy_server.port}", options=ALONE) as channel:
            untyped: Any = channel
            unsent = untyped.stream_stream(CHAT)(nothing())
            await anext(aiter(pb_grpc.ChatServiceStub(channel).ChatStream(pb.ChatStreamRequest())))
            await asyncio.sleep(0.2)  # the server waits to write
            unsent.cancel()
        await eventually(lambda: len(report.of(LOGGER)) == 2)
    assert [line["code"] for line in report.of(LOGGER)] == ["CANCELLED"] * 2
    assert report.of("daca_shared.calls.errors") == []


async def to_the_end(events: AsyncIterator[Any]) -> None:
    async for _ in events:
        pass


@asynccontextmanager
async def calls_of_one_client(
    server: GrpcServer,
    path: str,
    requests: Callable[[], AsyncIterator[bytes]],
    max_calls: int = MAX_CALLS,
) -> AsyncIterator[None]:
    """More calls, on two connections, than there may be at once."""
    async with AsyncExitStack() as channels:
        for _ in range(2):
            channel: Any = aio.insecure_channel(f"127.0.0.1:{server.port}", options=ALONE)
            await channels.enter_async_context(channel)
            calls = [channel.stream_stream(path)(requests()) for _ in range(max_calls * 2 // 3)]
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


async def is_answered(server: GrpcServer, method: str, request: Any) -> bool:
    """Whether this call is answered, and then a health check, too."""
    async with channel_to(server) as channel:
        try:
            await getattr(pb_grpc.ChatServiceStub(channel), method)(request, timeout=5)
        except aio.AioRpcError:  # grpc itself refuses calls that come too fast
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
    small_server: GrpcServer, path: str, requests: Callable[[], AsyncIterator[bytes]]
) -> None:
    async with calls_of_one_client(small_server, f"/{path}", requests):
        await eventually(partial(is_answered, small_server, "Chat", A_CHAT), PATIENCE_S)


class Busy(ChatServicer):
    """Never answers a chat, or streams an answer without end."""

    calls = 0
    ended = 0

    async def Chat(self, request: pb.ChatRequest, context: Context) -> pb.ChatResponse:
        self.calls += 1
        return await asyncio.Future[pb.ChatResponse]()

    async def ChatStream(
        self, request: pb.ChatStreamRequest, context: Context
    ) -> AsyncIterator[pb.ChatStreamResponse]:
        self.calls += 1
        try:
            while True:
                yield pb.ChatStreamResponse(reply_delta="x" * 100_000)
        finally:
            self.ended += 1


@pytest.fixture
def busy(chat: FakeChat) -> Busy:
    return Busy(chat.conversation, chat.turns, chat.admission, **FREE)


@pytest.fixture
async def busy_server(busy: Busy) -> AsyncIterator[GrpcServer]:
    async with serving(busy, max_calls=MAX_CALLS) as server:
        yield server


@asynccontextmanager
async def filled(
    server: GrpcServer, busy: Busy, method: str, calls: int = MAX_CALLS
) -> AsyncIterator[None]:
    """As many calls as may be at once. grpc itself refuses some that come too fast."""
    async with AsyncExitStack() as stack:
        while busy.calls < calls:
            path = f"/daca.chat.v1.ChatService/{method}"
            await stack.enter_async_context(calls_of_one_client(server, path, one_chat, calls))
            await asyncio.sleep(0.3)
        yield


async def one_chat() -> AsyncIterator[bytes]:
    yield A_CHAT.SerializeToString()


async def test_streams_that_their_client_does_not_read_do_not_keep_others_out(
    busy: Busy, busy_server: GrpcServer
) -> None:
    async with filled(busy_server, busy, "ChatStream"):
        await eventually(partial(is_answered, busy_server, "ListConversations", A_LIST), PATIENCE_S)


async def test_a_call_that_makes_room_says_why(busy: Busy, busy_server: GrpcServer) -> None:
    address = f"127.0.0.1:{busy_server.port}"
    async with aio.insecure_channel(address, options=ALONE) as channel:
        untyped: Any = channel
        unread = aiter(pb_grpc.ChatServiceStub(channel).ChatStream(pb.ChatStreamRequest()))
        unsent = aiter(untyped.stream_stream(CHAT)(nothing()))
        await anext(unread)
        # `unread` is one of them.
        async with filled(busy_server, busy, "Chat", MAX_CALLS + 1):
            refused = [await refusal(to_the_end(each)) for each in (unread, unsent)]
    assert {(*each.reasons, each.retry_after_s) for each in refused} == {("daca/LIMIT_REACHED", 1)}


@pytest.mark.parametrize("method", ["Chat", "ChatStream"])
async def test_a_call_that_outlives_a_stop_is_told_and_logged_as_such(
    busy: Busy, busy_server: GrpcServer, method: str
) -> None:
    path = f"/daca.chat.v1.ChatService/{method}"
    with reported() as report:
        async with channel_to(busy_server) as channel:
            untyped: Any = channel
            call = untyped.stream_stream(path)(one_chat())
            await eventually(lambda: busy.calls)
            stop = asyncio.create_task(busy_server.stop(0.2))
            refused = await refusal(to_the_end(aiter(call)))
            await stop
            await eventually(lambda: report.of(LOGGER))  # the caller may be told earlier
    assert refused.code is StatusCode.UNAVAILABLE
    assert refused.reasons == ["daca/STOPPING"]
    assert [line["code"] for line in report.of(LOGGER)] == ["UNAVAILABLE"]


async def test_a_health_check_takes_no_place_of_another_call(
    busy: Busy, busy_server: GrpcServer
) -> None:
    async def is_settled() -> bool:
        ended = busy.ended
        await asyncio.sleep(0.7)
        return busy.ended == ended

    async with filled(busy_server, busy, "ChatStream"):
        await eventually(is_settled, PATIENCE_S)
        ended = busy.ended
        for _ in range(3):
            assert await is_healthy(busy_server)
        assert busy.ended == ended


async def test_health_is_told_even_while_as_many_calls_are_made_as_may_be(busy: Busy) -> None:
    async with serving(busy) as server, filled(server, busy, "Chat", 1024):
        async with channel_to(server) as channel:
            stub = pb_grpc.ChatServiceStub(channel)

            async def is_told() -> bool:  # grpc itself refuses calls that come too fast
                refused = await refusal(stub.ListConversations(A_LIST))
                return refused.reasons == ["daca/LIMIT_REACHED"]

            await eventually(is_told, PATIENCE_S)
        assert await is_healthy(server)


async def test_a_call_that_is_one_too_many_is_measured(busy: Busy, busy_server: GrpcServer) -> None:
    labels = {"rpc_response_status_code": "RESOURCE_EXHAUSTED"}
    listing = "daca.chat.v1.ChatService/ListConversations"
    before = {m: total(COUNT, rpc_method=m, **labels) for m in (listing, "_OTHER")}
    async with filled(busy_server, busy, "Chat"), channel_to(busy_server) as channel:

        async def is_told(path: str) -> bool:  # grpc itself refuses calls that come too fast
            untyped: Any = channel
            refused = await refusal(untyped.unary_unary(path)(b""))
            return refused.reasons == ["daca/LIMIT_REACHED"]

        for path in (f"/{listing}", "/no.such/Method"):
            await eventually(partial(is_told, path), PATIENCE_S)
    assert all(total(COUNT, rpc_method=m, **labels) > n for m, n in before.items())
