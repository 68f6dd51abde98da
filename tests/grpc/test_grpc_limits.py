"""Calls of one client end, whatever it sends or leaves unread, and don't starve other clients."""

import asyncio
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from grpc import StatusCode, aio
from grpc_health.v1 import health_pb2, health_pb2_grpc

from daca.analytics.v1 import analytics_pb2
from daca.chat.v1 import chat_pb2 as pb
from daca.chat.v1 import chat_pb2_grpc as pb_grpc
from daca_shared.calls.server import GrpcServer
from tests.fakes import FakeChat, eventually, listening
from tests.grpc.conftest import nothing
from tests.grpc.refusals import refusal, send_bytes

WATCHES = 64
PING_OFTEN = [
    ("grpc.keepalive_time_ms", 1500),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
]


@contextmanager
def open_files(number: int) -> Iterator[None]:
    """Allow this process only so many. It may have more open already."""
    before, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (number, most))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (before, most))


async def test_silent_connections_take_at_most_a_quarter_of_the_open_files() -> None:
    with open_files(64):
        server = GrpcServer()
    async with listening(server):
        came = [await asyncio.open_connection("127.0.0.1", server.port) for _ in range(30)]
        greetings = await asyncio.gather(*(reader.read(1) for reader, _ in came))
        assert len([greeting for greeting in greetings if greeting]) == 16
        for _, writer in came:
            writer.close()


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
    assert (refused.code, refused.reasons) == (StatusCode.INVALID_ARGUMENT, ["daca/BODY_TOO_LARGE"])
    assert refused.details == "The request is longer than 1048576 bytes"


async def test_none_of_too_many_messages_is_checked(analytics_channel: aio.Channel) -> None:
    path = "/daca.analytics.v1.AnalyticsService/RecordMessages"
    bad = analytics_pb2.SentMessage(message_id="no UUID")
    request = analytics_pb2.RecordMessagesRequest(messages=[bad] * 1001)
    refused = await refusal(send_bytes(analytics_channel, path, request.SerializeToString()))
    assert refused.code is StatusCode.INVALID_ARGUMENT
    assert refused.details == "messages: must be 1 to 1000 messages"
