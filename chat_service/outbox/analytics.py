"""The client of the analytics service: one channel, through our own sidecar if there is one."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from grpc import StatusCode, aio
from grpc_health.v1 import health_pb2, health_pb2_grpc

from chat_service.chat.ports import FullAnalytics, Outbox
from chat_service.health.status import LastCall
from chat_service.outbox.outbox_rows import OutboxEntry
from daca.analytics.v1 import analytics_pb2 as pb
from daca.analytics.v1 import analytics_pb2_grpc as pb_grpc
from daca_shared.calls.sidecar import UNREACHABLE, Peer
from daca_shared.domain import DomainError, InvalidInput, NotFound, TimedOut, Unavailable
from daca_shared.observe.requests import request_metadata

_RECORD_TIMEOUT_S = 5.0
_READY_TIMEOUT_S = 1.0


class AnalyticsClient:
    """Asks for counts and records messages. Each call has a deadline."""

    def __init__(self, peer: Peer, interceptors: Sequence[aio.ClientInterceptor] = ()) -> None:
        self._peer = peer
        self.way = peer.way
        """How calls go to analytics, in words."""
        self.last_call: LastCall | None = None
        """The latest call that has ended, but for checks."""
        self._channel = peer.channel(interceptors)
        self._stub = pb_grpc.AnalyticsServiceStub(self._channel)
        # Its published stubs know no methods.
        self._health: Any = health_pb2_grpc.HealthStub(self._channel)

    @property
    def _metadata(self) -> tuple[tuple[str, str], ...]:
        return (*self._peer.metadata, *request_metadata())

    async def message_count(self, user_id: str, *, timeout_s: float) -> int:
        """How many messages `user_id` has sent. Raises `NotFound` for an unknown user,
        `TimedOut` or `Unavailable` when analytics does not say."""
        request = pb.GetAnalyticsRequest(user_id=user_id)
        with self._noted("GetAnalytics"), _domain_errors():
            response = await self._stub.GetAnalytics(
                request, timeout=timeout_s, metadata=self._metadata
            )
        return response.analytics.message_count

    async def activity(self, user_id: str, *, timeout_s: float) -> dict[str, int]:
        """How many messages `user_id` has sent on each of the last 14 days, by date (UTC), the
        oldest first. Raises as `message_count` does."""
        request = pb.ListActivityRequest(user_id=user_id)
        with self._noted("ListActivity"), _domain_errors():
            response = await self._stub.ListActivity(
                request, timeout=timeout_s, metadata=self._metadata
            )
        return {day.date: day.message_count for day in response.days}

    async def record(self, entries: Sequence[OutboxEntry]) -> None:
        """Returns once all are counted, for good. Raises `InvalidInput` if analytics refuses
        them; any other `DomainError` means that they may be counted or not."""
        request = pb.RecordMessagesRequest()
        for entry in entries:
            message = request.messages.add(message_id=str(entry.message_id), user_id=entry.user_id)
            message.sent_time.FromDatetime(entry.sent_time)
        with self._noted("RecordMessages"), _domain_errors():
            await self._stub.RecordMessages(
                request, timeout=_RECORD_TIMEOUT_S, metadata=self._metadata
            )

    async def check(self) -> None:
        """Raises `DomainError` unless analytics serves, by `grpc.health.v1` over the same way
        as every other call."""
        request = health_pb2.HealthCheckRequest()
        with _domain_errors():
            response = await self._health.Check(
                request, timeout=_READY_TIMEOUT_S, metadata=self._metadata
            )
        if response.status != health_pb2.HealthCheckResponse.SERVING:
            raise Unavailable("Analytics is shutting down")

    async def close(self) -> None:
        """Close the channel."""
        await self._channel.close()

    @contextmanager
    def _noted(self, method: str) -> Iterator[None]:
        outcome = "OK"
        try:
            yield
        except DomainError as error:
            outcome = error.message
            raise
        finally:
            self.last_call = LastCall(method=method, outcome=outcome, time=datetime.now(UTC))


class SettledAnalytics:
    """What analytics says of a user once it has counted all that the user's finished chats sent.

    After `patience_s`, it is what has been counted so far. Without, it is all or nothing: each
    call raises `TimedOut` if that takes too long, or else what `AnalyticsClient` raises."""

    def __init__(
        self, analytics: FullAnalytics, outbox: Outbox, *, patience_s: float | None = None
    ) -> None:
        self._analytics = analytics
        self._outbox = outbox
        self._patience_s = patience_s

    async def message_count(self, user_id: str, *, timeout_s: float) -> int:
        """See `AnalyticsClient.message_count`."""
        return await self._settled(self._analytics.message_count, user_id, timeout_s)

    async def activity(self, user_id: str, *, timeout_s: float) -> dict[str, int]:
        """See `AnalyticsClient.activity`."""
        return await self._settled(self._analytics.activity, user_id, timeout_s)

    async def _settled[T](
        self, ask: Callable[..., Awaitable[T]], user_id: str, timeout_s: float
    ) -> T:
        loop = asyncio.get_running_loop()
        began = loop.time()
        try:
            async with asyncio.timeout(timeout_s if self._patience_s is None else self._patience_s):
                await self._outbox.settled(user_id)
        except TimeoutError:
            if self._patience_s is None:
                raise TimedOut(f"Analytics took over {timeout_s} s") from None
        return await ask(user_id, timeout_s=timeout_s - (loop.time() - began))


@contextmanager
def _domain_errors() -> Iterator[None]:
    try:
        yield
    except aio.AioRpcError as error:
        raise _domain_error(error) from error


def _domain_error(error: aio.AioRpcError) -> DomainError:
    match error.code():
        case StatusCode.NOT_FOUND:
            return NotFound(error.details() or "Not found")
        case StatusCode.INVALID_ARGUMENT:
            return InvalidInput([], error.details() or "Analytics refused the request")
        case StatusCode.DEADLINE_EXCEEDED:
            return TimedOut("Analytics did not answer in time")
        case code if code in UNREACHABLE:
            return Unavailable("Analytics can't be reached")
        case code:
            return Unavailable(f"Analytics failed ({code.name})")
