"""gRPC calls as spans, on both of their ends.

Our own interceptors, as those of `opentelemetry-instrumentation-grpc` lose the cancellation
and the status of `grpc.aio` calls. Names: OpenTelemetry's semantic conventions for RPC.
"""

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from typing import Any

import grpc
from grpc import StatusCode, aio
from opentelemetry import trace
from opentelemetry.context import Context as OtelContext
from opentelemetry.trace import Span, SpanContext, SpanKind, Status
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from daca_shared.calls.errors import Context, final_status
from daca_shared.calls.methods import Handler

_PROPAGATOR = TraceContextTextMapPropagator()
# The others are the caller's doing, and no failure of the server's.
_SERVER_ERRORS = frozenset(
    {
        StatusCode.UNKNOWN,
        StatusCode.DEADLINE_EXCEEDED,
        StatusCode.UNIMPLEMENTED,
        StatusCode.INTERNAL,
        StatusCode.UNAVAILABLE,
        StatusCode.DATA_LOSS,
    }
)


def fail(span: Span, error_type: str) -> None:
    """Mark the span as failed, without a text, which might be a message's."""
    span.set_attribute("error.type", error_type)
    span.set_status(Status(trace.StatusCode.ERROR))


def _is_ours(method: str) -> bool:
    """Whether it is no probe's (`grpc.health`) and no tool's (`grpc.reflection`)."""
    return not method.startswith("/grpc.")


def _start(tracer: trace.Tracer, method: str, kind: SpanKind, parent: OtelContext | None) -> Span:
    name = method.removeprefix("/")
    attributes = {"rpc.system.name": "grpc", "rpc.method": name}
    return tracer.start_span(name, parent, kind, attributes)


def _end(span: Span, code: StatusCode, *, failed: bool) -> None:
    span.set_attribute("rpc.response.status_code", code.name)
    if failed:
        fail(span, code.name)
    span.end()


class TracingClientInterceptor(aio.UnaryUnaryClientInterceptor):
    """A CLIENT span for each call, whose context goes with it."""

    def __init__(self, tracer: trace.Tracer) -> None:
        self._tracer = tracer

    async def intercept_unary_unary(
        self, continuation: Callable[..., Any], details: aio.ClientCallDetails, request: Any
    ) -> Any:
        """Make the call inside a span, and end it with the call's own status."""
        method = details.method
        method = method.decode() if isinstance(method, bytes) else str(method)
        if not _is_ours(method):
            return await continuation(_with_context(details, _not_sampled()), request)
        span = _start(self._tracer, method, SpanKind.CLIENT, None)
        code = StatusCode.CANCELLED
        try:
            call = await continuation(_with_context(details, span), request)
            try:
                code = await call.code()
            except asyncio.CancelledError:
                call.cancel()
                raise
            return call
        finally:
            _end(span, code, failed=code is not StatusCode.OK)


def _with_context(details: aio.ClientCallDetails, span: Span) -> aio.ClientCallDetails:
    carrier: dict[str, str] = {}
    _PROPAGATOR.inject(carrier, trace.set_span_in_context(span))
    metadata = aio.Metadata(*(details.metadata or ()), *carrier.items())
    return aio.ClientCallDetails(
        details.method, details.timeout, metadata, details.credentials, details.wait_for_ready
    )


def _not_sampled() -> Span:
    # Sidecars would make a trace of their own of each probe.
    ids = random.getrandbits(128) | 1, random.getrandbits(64) | 1
    return trace.NonRecordingSpan(SpanContext(*ids, is_remote=False))


class ServerSpans:
    """A SERVER span for each call, within its caller's trace."""

    def __init__(self, tracer: trace.Tracer) -> None:
        self._tracer = tracer

    def wrap(self, handler: Handler, method: str) -> Handler:
        """The handler, traced."""
        decode, encode = handler.request_deserializer, handler.response_serializer
        unary, stream = handler.unary_unary, handler.unary_stream
        if unary and _is_ours(method):
            return grpc.unary_unary_rpc_method_handler(self._unary(unary, method), decode, encode)
        if stream and _is_ours(method):
            return grpc.unary_stream_rpc_method_handler(
                self._stream(stream, method), decode, encode
            )
        return handler

    def _unary(self, behaviour: Callable[..., Any], method: str) -> Callable[..., Any]:
        async def traced(request: Any, context: Context) -> Any:
            span = self._start(method, context)
            try:
                with _current(span):
                    response = await behaviour(request, context)
            except BaseException as error:
                _end_server(span, context, error)
                raise
            _end_server(span, context, None)
            return response

        return traced

    def _stream(self, behaviour: Callable[..., Any], method: str) -> Callable[..., Any]:
        async def traced(request: Any, context: Context) -> AsyncIterator[Any]:
            span = self._start(method, context)
            responses = behaviour(request, context)
            try:
                while True:
                    # Current for a step at a time: a stream that is left is closed elsewhere.
                    with _current(span):
                        try:
                            response = await anext(responses)
                        except StopAsyncIteration:
                            break
                    yield response
            except BaseException as error:
                _end_server(span, context, error)
                raise
            _end_server(span, context, None)

        return traced

    def _start(self, method: str, context: Context) -> Span:
        # daprd 1.18 appends the calling sidecar's `traceparent` to the caller's own: the last is
        # the nearest. grpc's core keeps only that one by itself, at present.
        metadata = dict(context.invocation_metadata() or ())
        carrier = {k: str(metadata[k]) for k in ("traceparent", "tracestate") if k in metadata}
        parent = _PROPAGATOR.extract(carrier, OtelContext())
        return _start(self._tracer, method, SpanKind.SERVER, parent)


def _current(span: Span) -> Any:
    return trace.use_span(span, record_exception=False, set_status_on_exception=False)


def _end_server(span: Span, context: Context, error: BaseException | None) -> None:
    code = final_status(context, error)
    _end(span, code, failed=code in _SERVER_ERRORS)
