"""Client and server spans of gRPC calls, named by OpenTelemetry's conventions. Our own, because
`opentelemetry-instrumentation-grpc` loses cancellations and statuses of `grpc.aio` calls."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from grpc import StatusCode, aio
from opentelemetry import trace
from opentelemetry.context import Context, attach
from opentelemetry.trace import Span, SpanContext, SpanKind

from daca_shared.observe.tracing import PROPAGATOR, fail

# Health checks (`grpc.health`) and reflection (`grpc.reflection`) get no spans.
_NOT_OURS = "/grpc."
# Without a decision by us, sidecars would begin a trace for each health check.
_NOT_SAMPLED = trace.NonRecordingSpan(SpanContext(trace_id=1, span_id=1, is_remote=False))
# All other codes are the caller's fault, not the server's.
_FAULTS = {
    "UNKNOWN", "DEADLINE_EXCEEDED", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS",
    "FAILED_PRECONDITION",  # with us, wrong settings
}  # fmt: skip


def _start(tracer: trace.Tracer, path: str, kind: SpanKind, parent: Context | None = None) -> Span:
    method = path.removeprefix("/")
    attributes = {"rpc.system.name": "grpc", "rpc.method": method}
    return tracer.start_span(method, parent, kind, attributes)


def _end(span: Span, code: StatusCode, *, failed: bool) -> None:
    span.set_attribute("rpc.response.status_code", code.name)
    if failed:
        fail(span, code.name)
    span.end()


@dataclass(eq=False)
class TracingClientInterceptor(aio.UnaryUnaryClientInterceptor):
    """Makes a CLIENT span for each call, and sends its context to the server."""

    tracer: trace.Tracer

    # `Any`: the published types of `aio.ClientCallDetails` are wrong.
    async def intercept_unary_unary(
        self, continuation: Callable[..., Any], details: Any, request: Any
    ) -> Any:
        path = details.method.decode()
        is_ours = not path.startswith(_NOT_OURS)
        span = _start(self.tracer, path, SpanKind.CLIENT) if is_ours else _NOT_SAMPLED
        metadata = aio.Metadata(*(details.metadata or ()))
        PROPAGATOR.inject(metadata, trace.set_span_in_context(span))
        call = await continuation(details._replace(metadata=metadata), request)
        try:
            await call
            return call
        finally:
            code = await call.code()
            _end(span, code, failed=code is not StatusCode.OK)


def begin_server_span(
    tracer: trace.Tracer | None, path: str, metadata: Iterable[tuple[str, Any]]
) -> Callable[[StatusCode], None]:
    """Begin a span in the caller's trace for the current task; returns a function that ends it."""
    if tracer is None or path.startswith(_NOT_OURS):
        return lambda code: None
    # daprd 1.18 appends its own `traceparent` to the caller's: the last one is our parent.
    parent = PROPAGATOR.extract(dict(metadata), Context())
    span = _start(tracer, path, SpanKind.SERVER, parent)
    # Never detached, as each call has its own task and so its own context.
    attach(trace.set_span_in_context(span))
    return lambda code: _end(span, code, failed=code.name in _FAULTS)
