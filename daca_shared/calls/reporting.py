"""One log line and one measurement for each gRPC call."""

import inspect
import logging
import time
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from functools import partial
from types import TracebackType
from typing import Any

from grpc import StatusCode

from daca_shared.calls.errors import Context, final_status
from daca_shared.calls.methods import Handler
from daca_shared.observe.metrics import call_durations
from daca_shared.observe.reports import report_soon
from daca_shared.observe.requests import REQUEST_ID, begin_request, shown_id

log = logging.getLogger(__name__)

_KINDS = ("unary_unary", "unary_stream", "stream_unary", "stream_stream")


def reporting_calls(handler: Any, method: str) -> Handler:
    """A handler that reports each call of `handler` when it ends, and gives it a request id that
    its caller is told.

    The outermost but for tracing: what others refuse is reported, too."""
    kind = next(kind for kind in _KINDS if getattr(handler, kind))
    behaviour = _reported(getattr(handler, kind), method.removeprefix("/"))
    reported: Handler = handler._replace(**{kind: behaviour})
    return reported


class _Call:
    def __init__(self, method: str, context: Context) -> None:
        self.method = method
        self._context = context
        self._began = time.perf_counter()
        self._request = begin_request(shown_id(context.invocation_metadata() or (), REQUEST_ID))

    def __enter__(self) -> None:
        self._context.set_trailing_metadata(((REQUEST_ID, self._request.id),))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        duration_s = time.perf_counter() - self._began
        report_soon(partial(self._report, final_status(self._context, error), duration_s))

    def _report(self, code: StatusCode, duration_s: float) -> None:
        call_durations(self.method, code.name).observe(duration_s)
        level = logging.DEBUG if self.method.startswith("grpc.health.v1.") else logging.INFO
        if log.isEnabledFor(level):
            fields = {
                "method": self.method,
                "code": code.name,
                "duration_ms": round(duration_s * 1000, 1),
            }
            log.log(level, "call", extra={"request": self._request, "fields": fields})


def _reported(behaviour: Callable[[Any, Context], Any], method: str) -> Callable[..., Any]:
    if inspect.isasyncgenfunction(behaviour):

        async def stream(request: Any, context: Context) -> AsyncIterator[Any]:
            with _Call(method, context):
                async with aclosing(behaviour(request, context)) as responses:
                    async for response in responses:
                        yield response

        return stream

    async def single(request: Any, context: Context) -> Any:
        with _Call(method, context):
            return await behaviour(request, context)

    return single
