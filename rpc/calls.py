"""One log line and one measurement for each gRPC call."""

import asyncio
import inspect
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from types import TracebackType
from typing import Any

import grpc
from grpc import StatusCode, aio

from rpc.errors import Context, Handler
from rpc.metrics import call_durations
from rpc.requests import REQUEST_ID, begin_request, shown_id

log = logging.getLogger(__name__)

_KINDS = ("unary_unary", "unary_stream", "stream_unary", "stream_stream")
# Of a stranger's making; every name of its own would be a time series of its own.
_UNKNOWN_METHOD = "_OTHER"


class CallReporter(aio.ServerInterceptor):
    """Reports each call when it ends, and gives it a request id that its caller is told.

    The outermost interceptor but for tracing: what others refuse is reported, too."""

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler:
        """The handler that `continuation` finds, reported."""
        metadata: Any = handler_call_details.invocation_metadata or ()
        call = _Call(handler_call_details.method.removeprefix("/"), shown_id(metadata, REQUEST_ID))
        handler: Any = await continuation(handler_call_details)
        if handler is None:
            call.method = _UNKNOWN_METHOD
            call.report(StatusCode.UNIMPLEMENTED)
            return None
        kind = next(kind for kind in _KINDS if getattr(handler, kind))
        reported: Handler = handler._replace(**{kind: _reported(getattr(handler, kind), call)})
        return reported


class _Call:
    def __init__(self, method: str, shown: str | bytes | None) -> None:
        self.method = method
        self._began = time.perf_counter()
        self._request = begin_request(shown)

    def __call__(self, context: Context) -> "_Call":
        self._context = context
        return self

    def __enter__(self) -> None:
        self._context.set_trailing_metadata(((REQUEST_ID, self._request.id),))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        if isinstance(error, asyncio.CancelledError | GeneratorExit):
            left_s = self._context.time_remaining()
            late = left_s is not None and left_s <= 0
            self.report(StatusCode.DEADLINE_EXCEEDED if late else StatusCode.CANCELLED)
        else:
            fallback = StatusCode.OK if error is None else StatusCode.UNKNOWN
            self.report(self._context.code() or fallback)

    def report(self, code: StatusCode) -> None:
        duration_s = time.perf_counter() - self._began
        call_durations(self.method, code.name).observe(duration_s)
        level = logging.DEBUG if self.method.startswith("grpc.health.v1.") else logging.INFO
        if log.isEnabledFor(level):
            fields = {
                "method": self.method,
                "code": code.name,
                "duration_ms": round(duration_s * 1000, 1),
            }
            log.log(level, "call", extra={"request": self._request, "fields": fields})


def _reported(behaviour: Callable[[Any, Context], Any], call: _Call) -> Callable[..., Any]:
    if inspect.isasyncgenfunction(behaviour):

        async def stream(request: Any, context: Context) -> AsyncIterator[Any]:
            with call(context):
                async with aclosing(behaviour(request, context)) as responses:
                    async for response in responses:
                        yield response

        return stream

    async def single(request: Any, context: Context) -> Any:
        with call(context):
            return await behaviour(request, context)

    return single
