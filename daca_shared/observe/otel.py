"""Tracing with OpenTelemetry: spans are sampled here, and sent in the background."""

import asyncio
import logging
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.sampling import ParentBasedTraceIdRatio
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from daca_shared.calls.spans import ServerSpans, TracingClientInterceptor, fail
from daca_shared.observe.tracing import Tracing
from daca_shared.observe.zipkin import ZipkinExporter
from daca_shared.settings import ServiceSettings

log = logging.getLogger(__name__)

_EXPORT_TIMEOUT_S = 2.0
# A batch of 500 messages can have as many chats; these are enough to follow.
_MAX_LINKS = 20
_PROPAGATOR = TraceContextTextMapPropagator()


class OtelTracing(Tracing):
    """Makes spans and sends them to where the settings say."""

    def __init__(self, settings: ServiceSettings, service_name: str) -> None:
        self._exporter = _Exporter(_exporter(settings))
        # Its own provider, not the process's: libraries that look for one would add theirs.
        self._provider = TracerProvider(
            resource=Resource.create({"service.name": service_name}),
            sampler=ParentBasedTraceIdRatio(settings.sampling_ratio),
            shutdown_on_exit=False,
        )
        self._provider.add_span_processor(BatchSpanProcessor(self._exporter))
        self.content = settings.trace_content
        self.tracer: trace.Tracer = self._provider.get_tracer("daca")
        self.server_wraps = [ServerSpans(self.tracer).wrap]
        self.client_interceptors = [TracingClientInterceptor(self.tracer)]

    @contextmanager
    def span(self, name: str) -> Iterator[None]:
        """A span inside the present one; what it raises is named in it, without its text."""
        if not trace.get_current_span().get_span_context().is_valid:
            yield
            return
        with self._current(name):
            yield

    @contextmanager
    def batch(self, name: str, origins: Iterable[str | None]) -> Iterator[None]:
        """A trace of its own, linked with the spans of `origins`, or the first of them."""
        found = dict.fromkeys(origin for origin in origins if origin)
        contexts = [
            trace.get_current_span(_PROPAGATOR.extract({"traceparent": origin}, Context()))
            for origin in list(found)[:_MAX_LINKS]
        ]
        links = [trace.Link(span.get_span_context()) for span in contexts]
        with self._current(name, Context(), links):
            yield

    def origin(self) -> str | None:
        """The present span's `traceparent`."""
        if not trace.get_current_span().is_recording():
            return None
        carrier: dict[str, str] = {}
        _PROPAGATOR.inject(carrier)
        return carrier.get("traceparent")

    async def close(self) -> None:
        """Send what is still here, if its receiver is there."""
        self._exporter.closing = True
        await asyncio.to_thread(self._provider.shutdown)

    @contextmanager
    def _current(
        self, name: str, context: Context | None = None, links: Sequence[trace.Link] = ()
    ) -> Iterator[None]:
        with self.tracer.start_as_current_span(
            name, context, links=links, record_exception=False, set_status_on_exception=False
        ) as span:
            try:
                yield
            except BaseException as error:
                fail(span, type(error).__name__)
                raise


class _Exporter(SpanExporter):
    """Says once that spans can't be delivered, and once that they can again."""

    def __init__(self, inner: SpanExporter) -> None:
        self.closing = False
        self._inner = inner
        self._works = True
        # They have a line for every attempt, and for every span that is dropped.
        for name in ("opentelemetry.exporter", "opentelemetry.sdk._shared_internal", "urllib3"):
            logging.getLogger(name).setLevel(logging.CRITICAL)

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        if self.closing and not self._works:
            return SpanExportResult.FAILURE
        result = self._inner.export(spans)
        works = result is SpanExportResult.SUCCESS
        if works != self._works:
            self._works = works
            if works:
                log.info("spans are delivered again")
            else:
                log.warning("spans can't be delivered now, and are dropped")
        return result

    def shutdown(self) -> None:
        self._inner.shutdown()


def _exporter(settings: ServiceSettings) -> SpanExporter:
    if settings.otlp_endpoint is None:
        return ZipkinExporter(str(settings.zipkin_endpoint), timeout_s=_EXPORT_TIMEOUT_S)
    return OTLPSpanExporter(
        endpoint=f"{str(settings.otlp_endpoint).removesuffix('/')}/v1/traces",
        headers=settings.otlp_headers_by_name,
        timeout=_EXPORT_TIMEOUT_S,
    )
