"""One log line, one measurement and one id per gRPC call, at both the client and the server."""

import asyncio
import re
from types import SimpleNamespace
from typing import Any

import pytest
from grpc import StatusCode, aio
from grpc_health.v1 import health_pb2, health_pb2_grpc

from chat_service.chat.conversation import Conversation
from chat_service.grpc.servicer import ChatServicer
from chat_service.outbox.analytics import AnalyticsClient
from chat_service.turns.leases import TurnLocks
from daca.analytics.v1 import analytics_pb2, analytics_pb2_grpc
from daca.chat.v1 import chat_pb2 as pb
from daca.chat.v1 import chat_pb2_grpc as pb_grpc
from daca_shared.calls.errors import final_status
from daca_shared.calls.server import GrpcServer
from daca_shared.calls.sidecar import Peer
from daca_shared.domain import Unavailable
from daca_shared.observe.logs import hash_user_id
from tests.fakes import FOREVER_S, FREE, FakeChat, channel_to, eventually, listening
from tests.grpc.refusals import send_bytes
from tests.reports import Report, reported, sample

LOGGER = "daca_shared.calls.wrap"
CHAT = "daca.chat.v1.ChatService/Chat"
STREAM = "daca.chat.v1.ChatService/ChatStream"
COUNT = "daca.analytics.v1.AnalyticsService/GetAnalytics"
type Stub = pb_grpc.ChatServiceAsyncStub  # exists only for the type checker


@pytest.fixture
def stub(chat_channel: aio.Channel) -> Stub:
    return pb_grpc.ChatServiceStub(chat_channel)


def measured(method: str, code: StatusCode) -> float:
    return sample(
        "rpc_server_call_duration_seconds_count",
        rpc_method=method,
        rpc_response_status_code=code.name,
    )


async def the_line(report: Report) -> dict[str, Any]:
    await eventually(lambda: report.of(LOGGER))
    (line,) = report.of(LOGGER)
    return line


async def end_of(call: Any) -> tuple[StatusCode, dict[str, Any]]:
    """A call's status and its trailers."""
    return await call.code(), dict(await call.trailing_metadata())


def request(text: str = "my secret diary") -> pb.ChatRequest:
    return pb.ChatRequest(user_id="alice", text=text)


def stream_request() -> pb.ChatStreamRequest:
    return pb.ChatStreamRequest(user_id="alice", text="my secret diary")


async def test_a_chat_is_one_line_without_its_text_or_its_users_name(stub: Stub) -> None:
    before = measured(CHAT, StatusCode.OK)
    with reported() as report:
        code, trailers = await end_of(stub.Chat(request(), metadata=(("x-request-id", "my-id"),)))
        line = await the_line(report)
    assert (code, trailers["x-request-id"]) == (StatusCode.OK, "my-id")
    assert 0 < line.pop("duration_ms") < 5000
    assert line.pop("timestamp")
    assert line == {
        "level": "info",
        "logger": LOGGER,
        "event": "call",
        "method": CHAT,
        "code": "OK",
        "request_id": "my-id",
        "user": hash_user_id("alice"),
    }
    assert "diary" not in report.text
    assert measured(CHAT, StatusCode.OK) == before + 1


@pytest.mark.parametrize(
    ("failure", "code"),
    [
        (Unavailable("away", retry_after_s=1), StatusCode.UNAVAILABLE),
        (RuntimeError("the cause"), StatusCode.INTERNAL),
    ],
)
async def test_a_failure_has_its_line_its_measurement_and_its_callers_id(
    stub: Stub, chat: FakeChat, failure: Exception, code: StatusCode
) -> None:
    chat.agent.failure = failure
    before = measured(CHAT, code)
    with reported() as report:
        shown, trailers = await end_of(stub.Chat(request()))
        line = await the_line(report)
    assert shown is code
    assert (line["code"], line["reason"]) == (code.name, code.name)
    assert re.fullmatch("[0-9a-f]{32}", str(trailers["x-request-id"]))
    assert {entry["request_id"] for entry in report.lines} == {trailers["x-request-id"]}
    assert "grpc-status-details-bin" in trailers
    assert measured(CHAT, code) == before + 1


async def test_a_stream_is_one_line_when_it_ends(stub: Stub, chat: FakeChat) -> None:
    chat.agent.delay_s = 0.2
    with reported() as report:
        call = stub.ChatStream(stream_request())
        await anext(aiter(call))
        assert report.of(LOGGER) == []
        async for _ in call:
            pass
        line = await the_line(report)
    assert (line["method"], line["code"]) == (STREAM, "OK")
    assert line["duration_ms"] >= 200
    assert line["user"] == hash_user_id("alice")


@pytest.mark.parametrize("streamed", [True, False])
async def test_a_cancelled_call_is_logged_as_such(
    stub: Stub, chat: FakeChat, streamed: bool
) -> None:
    chat.agent.delay_s = FOREVER_S
    method = STREAM if streamed else CHAT
    before = measured(method, StatusCode.CANCELLED)
    with reported() as report:
        call: Any = stub.ChatStream(stream_request()) if streamed else stub.Chat(request())
        await eventually(lambda: chat.agent.counts)
        await asyncio.sleep(0.05)
        call.cancel()
        line = await the_line(report)
    assert (line["method"], line["code"]) == (method, "CANCELLED")
    assert line["user"] == hash_user_id("alice")
    assert measured(method, StatusCode.CANCELLED) == before + 1


async def test_a_call_past_its_deadline_is_logged_as_such(stub: Stub, chat: FakeChat) -> None:
    chat.agent.delay_s = FOREVER_S
    with reported() as report:
        await end_of(stub.Chat(request(), timeout=0.2))
        line = await the_line(report)
    assert line["code"] == "DEADLINE_EXCEEDED"


async def test_probes_are_logged_at_debug_level(stub: Stub, chat_channel: aio.Channel) -> None:
    health: Any = health_pb2_grpc.HealthStub(chat_channel)
    with reported("INFO") as report:
        await health.Check(health_pb2.HealthCheckRequest())
        await stub.Chat(request())
        assert (await the_line(report))["method"] == CHAT
    with reported("DEBUG") as report:
        await health.Check(health_pb2.HealthCheckRequest())
        assert (await the_line(report))["level"] == "debug"


async def test_unknown_method_names_make_no_time_series(chat_channel: aio.Channel) -> None:
    before = measured("_OTHER", StatusCode.UNIMPLEMENTED)
    with reported() as report:
        with pytest.raises(aio.AioRpcError):
            await send_bytes(chat_channel, "/daca.chat.v1.ChatService/Alice", b"")
        assert (await the_line(report))["method"] == "_OTHER"
    assert "Alice" not in report.text
    assert measured("_OTHER", StatusCode.UNIMPLEMENTED) == before + 1


async def test_calls_to_analytics_have_the_request_id_of_the_chat(
    analytics_server: GrpcServer,
) -> None:
    chat = FakeChat()
    analytics = AnalyticsClient(Peer(f"127.0.0.1:{analytics_server.port}"))
    conversation = Conversation(
        analytics, chat.turns, TurnLocks(), chat.agent, max_text_length=100, timeout_s=5
    )
    chat_server = GrpcServer()
    servicer = ChatServicer(conversation, chat.turns, chat.admission, **FREE)
    chat_server.add(pb_grpc.add_ChatServiceServicer_to_server, servicer)
    with reported() as report:
        async with listening(chat_server), channel_to(chat_server) as channel:
            stub: Stub = pb_grpc.ChatServiceStub(channel)
            ids = [("x-request-id", f"id-{n}") for n in range(5)]
            await asyncio.gather(*(stub.Chat(request(), metadata=(id_,)) for id_ in ids))
            await eventually(lambda: len(report.of(LOGGER)) == 10)
    await analytics.close()
    for method in (CHAT, COUNT):
        lines = [line for line in report.of(LOGGER) if line["method"] == method]
        assert {line["request_id"] for line in lines} == {value for _, value in ids}
        assert {line["user"] for line in lines} == {hash_user_id("alice")}


async def test_a_batch_for_many_chats_has_its_own_id(analytics_channel: aio.Channel) -> None:
    stub: Any = analytics_pb2_grpc.AnalyticsServiceStub(analytics_channel)
    with reported() as report:
        _, trailers = await end_of(stub.RecordMessages(analytics_pb2.RecordMessagesRequest()))
        line = await the_line(report)
    assert line["code"] == "INVALID_ARGUMENT"
    assert line["request_id"] == trailers["x-request-id"]
    assert "user" not in line


@pytest.mark.parametrize(
    ("left_s", "code"),
    [
        (None, StatusCode.CANCELLED),
        (5.0, StatusCode.CANCELLED),
        (0.03, StatusCode.DEADLINE_EXCEEDED),
        (0.0, StatusCode.DEADLINE_EXCEEDED),
    ],
)
def test_a_call_cancelled_at_its_deadline_exceeded_it(
    left_s: float | None, code: StatusCode
) -> None:
    context: Any = SimpleNamespace(time_remaining=lambda: left_s)
    assert final_status(context, asyncio.CancelledError()) is code
