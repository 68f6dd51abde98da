"""Tracing with OpenTelemetry's SDK, which samples spans and sends them in the background."""

import logging
from collections.abc import Sequence

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.exporter.zipkin.json import ZipkinExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased

from daca_shared.settings import ServiceSettings

log = logging.getLogger(__name__)

_EXPORT_TIMEOUT_S = 2


class Provider(TracerProvider):
    """Not set as the global provider: libraries that look for one would add spans."""

    def __init__(self, settings: ServiceSettings, service_name: str) -> None:
        chosen = TraceIdRatioBased(settings.sampling_ratio)
        super().__init__(
            resource=Resource.create({"service.name": service_name}),
            sampler=ParentBased(chosen) if settings.sampler.startswith("parent") else chosen,
            shutdown_on_exit=False,
        )
        self._exporter = _LoggingExporter(_sender(settings))
        self.add_span_processor(BatchSpanProcessor(self._exporter))

    def shutdown(self) -> None:
        self._exporter.closing = True
        super().shutdown()


class _LoggingExporter(SpanExporter):
    """Logs when spans can't be delivered any more, and when they can again, once each."""

    def __init__(self, inner: SpanExporter) -> None:
        self.closing = False
        self._inner = inner
        self._works = True
        self._reasons: list[str] = []
        # These loggers report every dropped span and every attempt.
        for name in ("opentelemetry.sdk", "urllib3"):
            logging.getLogger(name).setLevel(logging.CRITICAL)
        # The exporter says only in its own log why a delivery has failed.
        reports = logging.getLogger(type(inner).__module__)
        reports.setLevel(logging.WARNING)
        reports.filters = [self._note]

    def _note(self, record: logging.LogRecord) -> bool:
        self._reasons.append(record.getMessage())
        return False

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        if self.closing and not self._works:
            return SpanExportResult.FAILURE
        self._reasons = []
        try:
            result = self._inner.export(spans)
        except OSError as error:  # Zipkin's exporter raises connection errors
            result, self._reasons = SpanExportResult.FAILURE, [str(error)]
        works = result is SpanExportResult.SUCCESS
        if works and not self._works:
            log.info("spans are delivered again")
        elif self._works and not works:
            reasons = "; ".join(self._reasons)
            log.warning("spans can't be delivered now, and are dropped: %s", reasons)
        self._works = works
        return result


def _sender(settings: ServiceSettings) -> SpanExporter:
    if settings.otlp_endpoint is None:
        return ZipkinExporter(endpoint=str(settings.zipkin_endpoint), timeout=_EXPORT_TIMEOUT_S)
    base = str(settings.otlp_endpoint).removesuffix("/").removesuffix("/v1/traces")
    url, headers = f"{base}/v1/traces", settings.otlp_headers_by_name
    return OTLPSpanExporter(endpoint=url, headers=headers, timeout=_EXPORT_TIMEOUT_S)
