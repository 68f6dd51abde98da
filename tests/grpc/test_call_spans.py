"""The content of a call's two spans, however the call ends."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, nullcontext
from typing import Any

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import SpanKind, get_current_span

from analytics_service.servicer import AnalyticsServicer
from chat_service.outbox.analytics import AnalyticsClient
from daca.analytics.v1 import analytics_pb2, analytics_pb2_grpc
from daca_shared.calls.server import GrpcServer
from daca_shared.calls.sidecar import Peer
from daca_shared.domain import DomainError, NotFound, TimedOut
from daca_shared.observe.tracing import tracing
from tests.fakes import channel_to, eventually, listening
from tests.spans import Spans

METHOD = "daca.analytics.v1.AnalyticsService/GetAnalytics"
TRACE_ID = "0af7651916cd43dd8448eb211c80319c"
FAR, NEAR = "b7ad6b7169203331", "00f067aa0ba902b7"


class Servicer(AnalyticsServicer):
    def __init__(self) -> None:
        self.reached = asyncio.Event()

    async def GetAnalytics(
        self, request: analytics_pb2.GetAnalyticsRequest, context: Any
    ) -> analytics_pb2.GetAnalyticsResponse:
        self.trace_id = get_current_span().get_span_context().trace_id
        self.reached.set()
        match request.user_id:
            case "missing":
                raise NotFound("secret-text")
            case "broken":
                raise ValueError("secret-text")
            case "slow":
                await asyncio.sleep(30)
        return analytics_pb2.GetAnalyticsResponse()


class Calls:
    def __init__(self, spans: Spans) -> None:
        self.spans = spans
        self.servicer = Servicer()

    @asynccontextmanager
    async def server(self) -> AsyncIterator[GrpcServer]:
        server = GrpcServer()
        server.add(analytics_pb2_grpc.add_AnalyticsServiceServicer_to_server, self.servicer)
        async with listening(server):
            yield server

    @asynccontextmanager
    async def client(self) -> AsyncIterator[AnalyticsClient]:
        async with self.server() as server:
            client = AnalyticsClient(Peer(f"127.0.0.1:{server.port}"))
            yield client
            await client.close()

    def span(self, kind: SpanKind) -> ReadableSpan:
        (found,) = [s for s in self.spans.ended if s.kind is kind]
        return found

    def outcome(self, kind: SpanKind) -> tuple[Any, bool]:
        span = self.span(kind)
        return (span.attributes or {})["rpc.response.status_code"], not span.status.is_ok


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Calls:
    spans = Spans()
    monkeypatch.setattr(tracing, "tracer", spans.tracer)
    return Calls(spans)


@pytest.mark.parametrize(
    ("user_id", "code", "client_failed", "server_failed"),
    [
        ("alice", "OK", False, False),
        ("missing", "NOT_FOUND", True, False),
        ("broken", "INTERNAL", True, True),
    ],
)
async def test_both_spans_have_the_calls_status(
    calls: Calls, user_id: str, code: str, client_failed: bool, server_failed: bool
) -> None:
    async with calls.client() as client:
        with nullcontext() if code == "OK" else pytest.raises(DomainError):
            await client.message_count(user_id, timeout_s=5)
    assert calls.outcome(SpanKind.CLIENT) == (code, client_failed)
    assert calls.outcome(SpanKind.SERVER) == (code, server_failed)
    asked, served = calls.span(SpanKind.CLIENT), calls.span(SpanKind.SERVER)
    assert asked.name == served.name == METHOD
    assert served.parent is not None
    assert asked.context is not None
    assert served.parent.span_id == asked.context.span_id
    assert "secret" not in asked.to_json() + served.to_json()


async def test_the_last_of_two_traceparents_is_the_parent(calls: Calls) -> None:
    """Because daprd 1.18 appends its own to the caller's."""
    metadata = [("traceparent", f"00-{TRACE_ID}-{span_id}-01") for span_id in (FAR, NEAR)]
    async with calls.server() as server, channel_to(server) as channel:
        stub: Any = analytics_pb2_grpc.AnalyticsServiceStub(channel)
        request = analytics_pb2.GetAnalyticsRequest(user_id="alice")
        await stub.GetAnalytics(request, metadata=metadata)
    (span,) = calls.spans.ended
    assert span.parent is not None
    assert f"{span.parent.trace_id:032x} {span.parent.span_id:016x}" == f"{TRACE_ID} {NEAR}"
    assert f"{calls.servicer.trace_id:032x}" == TRACE_ID
    assert (span.name, span.kind) == (METHOD, SpanKind.SERVER)


async def test_a_health_check_has_no_spans(calls: Calls) -> None:
    async with calls.client() as client:
        await client.check()
    assert calls.spans.ended == ()


async def test_a_cancelled_call_is_cancelled_at_both_ends(calls: Calls) -> None:
    async with calls.client() as client:
        task = asyncio.ensure_future(client.message_count("slow", timeout_s=20))
        await calls.servicer.reached.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await eventually(lambda: len(calls.spans.ended) == 2)
    assert calls.outcome(SpanKind.CLIENT) == ("CANCELLED", True)
    assert calls.outcome(SpanKind.SERVER) == ("CANCELLED", False)


async def test_an_exceeded_deadline_is_the_status(calls: Calls) -> None:
    async with calls.client() as client:
        with pytest.raises(TimedOut):
            await client.message_count("slow", timeout_s=0.1)
        await eventually(lambda: len(calls.spans.ended) == 2)
    assert calls.outcome(SpanKind.CLIENT) == ("DEADLINE_EXCEEDED", True)
    # The server may see the deadline or the cancellation first.
    assert calls.outcome(SpanKind.SERVER)[0] in ("DEADLINE_EXCEEDED", "CANCELLED")
