"""The client of the analytics service: one channel, through our own sidecar if there is one."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from grpc import StatusCode, aio
from grpc_health.v1 import health_pb2, health_pb2_grpc
from opentelemetry import trace

from chat_service.outbox.outbox import Outbox, OutboxEntry
from daca.analytics.v1 import analytics_pb2 as pb
from daca.analytics.v1 import analytics_pb2_grpc as pb_grpc
from daca_shared.calls.sidecar import UNREACHABLE, Peer
from daca_shared.domain import MOMENT_S, DomainError, InvalidInput, NotFound, TimedOut, Unavailable
from daca_shared.observe.requests import request_metadata
from daca_shared.observe.tracing import PROPAGATOR, end_call_span, tracing

# Shorter than a transaction's limit: on PostgreSQL the outbox waits for the answer inside one.
_RECORD_TIMEOUT_S = 3.0
_READY_TIMEOUT_S = 1.0
_SERVICE = "daca.analytics.v1.AnalyticsService/"
# Without a decision by us, sidecars would begin a trace for each health check.
_NOT_SAMPLED = trace.NonRecordingSpan(trace.SpanContext(trace_id=1, span_id=1, is_remote=False))


@dataclass(frozen=True)
class LastCall:
    method: str
    outcome: str
    """`OK`, or a description of what went wrong."""
    time: datetime


class AnalyticsClient:
    """Asks for counts, and records messages for `Outbox`. Each call has a deadline."""

    def __init__(self, peer: Peer) -> None:
        self._peer = peer
        self.way = peer.way
        self.last_call: LastCall | None = None
        """The latest call that has ended, health checks aside."""
        channel = peer.channel()
        self.close = channel.close
        self._stub = pb_grpc.AnalyticsServiceStub(channel)
        # `Any`, as the stub's published types lack its methods.
        self._health: Any = health_pb2_grpc.HealthStub(channel)

    async def message_count(self, user_id: str, *, timeout_s: float) -> int:
        request = pb.GetAnalyticsRequest(user_id=user_id)
        response = await self._call(self._stub.GetAnalytics, request, timeout_s)
        return response.analytics.message_count

    async def activity(self, user_id: str, *, timeout_s: float) -> dict[str, int]:
        """How many messages the user sent on each of the last 14 days, by date (UTC), in order."""
        request = pb.ListActivityRequest(user_id=user_id)
        response = await self._call(self._stub.ListActivity, request, timeout_s)
        return {day.date: day.message_count for day in response.days}

    async def record(self, entries: Sequence[OutboxEntry]) -> None:
        request = pb.RecordMessagesRequest()
        for entry in entries:
            message = request.messages.add(message_id=str(entry.message_id), user_id=entry.user_id)
            message.sent_time.FromDatetime(entry.sent_time)
        await self._call(self._stub.RecordMessages, request, _RECORD_TIMEOUT_S)

    async def check(self) -> None:
        """Ask for analytics' `grpc.health.v1` status. Raises `DomainError` unless it is serving."""
        request = health_pb2.HealthCheckRequest()
        response = await self._call(self._health.Check, request, _READY_TIMEOUT_S)
        if response.status != health_pb2.HealthCheckResponse.SERVING:
            raise Unavailable("Analytics is not ready")

    async def _call[Q, A](
        self, method: aio.UnaryUnaryMultiCallable[Q, A], request: Q, timeout_s: float
    ) -> A:
        name, outcome = type(request).__name__.removesuffix("Request"), "cancelled"
        is_check = isinstance(request, health_pb2.HealthCheckRequest)
        late = time.monotonic() + timeout_s - MOMENT_S
        span: trace.Span = _NOT_SAMPLED
        traced: dict[str, str] = {}
        if tracing.tracer:
            if not is_check:
                span = tracing.tracer.start_span(_SERVICE + name, kind=trace.SpanKind.CLIENT)
            PROPAGATOR.inject(traced, trace.set_span_in_context(span))
        metadata = (*self._peer.metadata, *request_metadata(), *traced.items())
        code = StatusCode.CANCELLED
        try:
            answer = await method(request, timeout=timeout_s, metadata=metadata)
        except aio.AioRpcError as error:
            code = error.code()
            failure = _domain_error(error, is_late=time.monotonic() > late)
            outcome = failure.message
            raise failure from error
        else:
            code, outcome = StatusCode.OK, "OK"
            return answer
        finally:
            end_call_span(span, _SERVICE + name, code.name, failed=code is not StatusCode.OK)
            if not is_check:
                self.last_call = LastCall(name, outcome, datetime.now(UTC))


@dataclass(eq=False)
class SettledCounts:
    """Counts that include all of the user's kept turns. The time limit is for the wait and the
    answer together; a wait that takes too long raises `TimedOut`."""

    analytics: AnalyticsClient
    outbox: Outbox

    async def message_count(self, user_id: str, *, timeout_s: float) -> int:
        ends_at = time.monotonic() + timeout_s
        # Not left to the deadline below: even with no time left, grpc may accept a quick answer.
        if not await self.outbox.settled(user_id, timeout_s):
            raise TimedOut("The user's latest messages are not counted yet")
        return await self.analytics.message_count(user_id, timeout_s=ends_at - time.monotonic())


def _domain_error(error: aio.AioRpcError, *, is_late: bool) -> DomainError:
    code = error.code()
    if code is StatusCode.CANCELLED and is_late:  # by a sidecar, whose deadline has passed
        code = StatusCode.DEADLINE_EXCEEDED
    match code:
        case StatusCode.NOT_FOUND:
            return NotFound(error.details() or "Not found", code="USER_NOT_FOUND")
        case StatusCode.INVALID_ARGUMENT:
            return InvalidInput([], error.details() or "Analytics refused the request")
        case StatusCode.DEADLINE_EXCEEDED:
            return TimedOut("Analytics did not answer in time", code="ANALYTICS_TIMED_OUT")
        case _:
            problem = "can't be reached" if code in UNREACHABLE else f"failed ({code.name})"
            return Unavailable(f"Analytics {problem}", code="ANALYTICS_UNAVAILABLE")
