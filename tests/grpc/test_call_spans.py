"""The content of a call's two spans, however the call ends."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, nullcontext
from typing import Any

import grpc
import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import SpanKind

from analytics_service.servicer import AnalyticsServicer
from daca.analytics.v1 import analytics_pb2, analytics_pb2_grpc
from daca_shared.calls.server import GrpcServer
from daca_shared.calls.sidecar import Peer
from daca_shared.calls.spans import TracingClientInterceptor
from daca_shared.domain import NotFound
from tests.fakes import eventually
from tests.spans import CallTracing, Spans


class Servicer(AnalyticsServicer):
    def __init__(self) -> None:
        self.reached = asyncio.Event()

    async def GetAnalytics(
        self, request: analytics_pb2.GetAnalyticsRequest, context: Any
    ) -> analytics_pb2.GetAnalyticsResponse:
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
    def __init__(self) -> None:
        self.spans = Spans()
        self.tracing = CallTracing(self.spans)
        self.servicer = Servicer()

    @asynccontextmanager
    async def stub(self) -> AsyncIterator[Any]:
        server = GrpcServer(tracing=self.tracing)
        server.add(analytics_pb2_grpc.add_AnalyticsServiceServicer_to_server, self.servicer)
        await server.start("127.0.0.1", 0, "")
        assert self.tracing.tracer
        interceptor = TracingClientInterceptor(self.tracing.tracer)
        async with Peer(f"127.0.0.1:{server.port}").channel([interceptor]) as channel:
            yield analytics_pb2_grpc.AnalyticsServiceStub(channel)
        await server.stop(0)

    def span(self, kind: SpanKind) -> ReadableSpan:
        (found,) = [s for s in self.spans.ended if s.kind is kind]
        return found

    def outcome(self, kind: SpanKind) -> tuple[Any, bool]:
        span = self.span(kind)
        return (span.attributes or {})["rpc.response.status_code"], not span.status.is_ok


@pytest.mark.parametrize(
    ("user_id", "code", "client_failed", "server_failed"),
    [
        ("alice", "OK", False, False),
        ("missing", "NOT_FOUND", True, False),
        ("broken", "INTERNAL", True, True),
    ],
)
async def test_both_spans_have_the_status(
    user_id: str, code: str, client_failed: bool, server_failed: bool
) -> None:
    calls = Calls()
    async with calls.stub() as stub:
        with nullcontext() if code == "OK" else pytest.raises(grpc.RpcError):
            await _call(stub, analytics_pb2.GetAnalyticsRequest(user_id=user_id), timeout_s=5)
    assert calls.outcome(SpanKind.CLIENT) == (code, client_failed)
    assert calls.outcome(SpanKind.SERVER) == (code, server_failed)
    client, server = calls.span(SpanKind.CLIENT), calls.span(SpanKind.SERVER)
    assert server.parent is not None
    assert client.context is not None
    assert server.parent.span_id == client.context.span_id
    assert "secret" not in client.to_json() + server.to_json()


async def test_a_cancelled_call_is_cancelled_at_both_ends() -> None:
    calls = Calls()
    async with calls.stub() as stub:
        request = analytics_pb2.GetAnalyticsRequest(user_id="slow")
        task = asyncio.ensure_future(_call(stub, request, timeout_s=20))
        await calls.servicer.reached.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await eventually(lambda: len(calls.spans.ended) == 2)
    assert calls.outcome(SpanKind.CLIENT) == ("CANCELLED", True)
    assert calls.outcome(SpanKind.SERVER) == ("CANCELLED", False)


async def test_an_exceeded_deadline_is_the_status() -> None:
    calls = Calls()
    async with calls.stub() as stub:
        request = analytics_pb2.GetAnalyticsRequest(user_id="slow")
        with pytest.raises(grpc.RpcError):
            await _call(stub, request, timeout_s=0.1)
        await eventually(lambda: len(calls.spans.ended) == 2)
    assert calls.outcome(SpanKind.CLIENT) == ("DEADLINE_EXCEEDED", True)
    # The server may see the deadline or the cancellation first.
    assert calls.outcome(SpanKind.SERVER)[0] in ("DEADLINE_EXCEEDED", "CANCELLED")


async def _call(stub: Any, request: Any, *, timeout_s: float) -> None:
    await stub.GetAnalytics(request, timeout=timeout_s)
