"""Tracing as the services use it: global, as a process is one service. Without a tracer it makes no
spans and costs next to nothing."""

import asyncio
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

from opentelemetry import trace
from opentelemetry.context import Context, attach
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from daca_shared.domain import Misconfigured
from daca_shared.settings import ServiceSettings

PROPAGATOR = TraceContextTextMapPropagator()
# A batch can come from 100 chats; links to the first of them are enough.
_MAX_LINKS = 20
_NOTHING = nullcontext()


class Tracing:
    tracer: trace.Tracer | None = None
    """For code that makes its own spans; None without tracing."""
    content = False
    """Whether the texts of messages may be in spans."""

    def start(self, settings: ServiceSettings, service_name: str) -> None:
        if settings.otlp_endpoint or settings.zipkin_endpoint:
            # OpenTelemetry's SDK. To import it takes a sixth of a second and 5 MB.
            from daca_shared.observe.otel import Provider  # noqa: PLC0415

            try:
                self._provider = Provider(settings, service_name)
            except ValueError as error:  # it reads OTEL_BSP_… and OTEL_…_LIMIT itself
                raise Misconfigured(f"OpenTelemetry's variables, OTEL_…: {error}") from None
            self.tracer, self.content = self._provider.get_tracer("daca"), settings.trace_content

    async def close(self) -> None:
        """Send the spans that were not sent yet, and make no more."""
        if self.tracer:
            self.tracer = None
            await asyncio.to_thread(self._provider.shutdown)

    def span(self, name: str) -> AbstractContextManager[None]:
        """A span inside the current one; no span if there is none, as in background work. It
        records the type of an exception, but not its text."""
        if self.tracer and trace.get_current_span().get_span_context().is_valid:
            return _current(self.tracer, name)
        return _NOTHING

    def batch(self, name: str, origins: Iterable[str | None]) -> AbstractContextManager[None]:
        """A new trace, linked to the spans that the first of `origins` name."""
        if not self.tracer:
            return _NOTHING
        found = [*dict.fromkeys(filter(None, origins))][:_MAX_LINKS]
        contexts = [PROPAGATOR.extract({"traceparent": origin}, Context()) for origin in found]
        links = [trace.Link(trace.get_current_span(each).get_span_context()) for each in contexts]
        return _current(self.tracer, name, Context(), links)

    def origin(self) -> str | None:
        """The current span's `traceparent`, for a later `batch`; None if it isn't recorded."""
        if not trace.get_current_span().is_recording():
            return None
        carrier: dict[str, str] = {}
        PROPAGATOR.inject(carrier)
        return carrier.get("traceparent")


tracing = Tracing()


def fail(span: trace.Span, error_type: str) -> None:
    """Mark the span as failed. Without an error's text, which may quote a message."""
    span.set_attribute("error.type", error_type)
    span.set_status(trace.StatusCode.ERROR)


def begin_server_span(tracer: trace.Tracer, name: str, headers: Mapping[str, Any]) -> trace.Span:
    """Begin the span of the request that the current task serves, in its caller's trace."""
    parent = PROPAGATOR.extract(headers, Context())
    span = tracer.start_span(name, parent, trace.SpanKind.SERVER)
    # Never detached, as each request has its own task and so its own context.
    attach(trace.set_span_in_context(span))
    return span


def end_call_span(span: trace.Span, method: str, code: str, *, failed: bool) -> None:
    """End the span of a gRPC call, at either end of it."""
    if not span.is_recording():
        return
    attributes = {"rpc.system.name": "grpc", "rpc.method": method, "rpc.response.status_code": code}
    span.set_attributes(attributes)
    if failed:
        fail(span, code)
    span.end()


@contextmanager
def _current(
    tracer: trace.Tracer, name: str, parent: Context | None = None, links: Sequence[trace.Link] = ()
) -> Iterator[None]:
    with tracer.start_as_current_span(
        name, parent, links=links, record_exception=False, set_status_on_exception=False
    ) as span:
        try:
            yield
        except BaseException as error:
            fail(span, type(error).__name__)
            raise
