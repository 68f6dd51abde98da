"""Spans as Zipkin takes them (https://zipkin.io/zipkin-api/, version 2): it speaks no OTLP, and
OpenTelemetry has given up its own exporter."""

import json
import urllib.request
from collections.abc import Sequence
from typing import Any

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.trace import INVALID_SPAN_CONTEXT, SpanKind, StatusCode


class ZipkinExporter(SpanExporter):
    """Posts spans to Zipkin's `/api/v2/spans`."""

    def __init__(self, endpoint: str, *, timeout_s: float) -> None:
        self._endpoint = endpoint
        self._timeout_s = timeout_s
        # A proxy for the world outside is none for this.
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        body = json.dumps([_encode(span) for span in spans]).encode()
        headers = {"content-type": "application/json"}
        request = urllib.request.Request(self._endpoint, body, headers)  # noqa: S310 - HttpUrl
        try:
            self._opener.open(request, timeout=self._timeout_s).close()
        except OSError:
            return SpanExportResult.FAILURE
        return SpanExportResult.SUCCESS


def _encode(span: ReadableSpan) -> dict[str, Any]:
    context = span.get_span_context() or INVALID_SPAN_CONTEXT
    start_ns, end_ns = span.start_time or 0, span.end_time or 0
    tags = {name: str(value) for name, value in (span.attributes or {}).items()}
    if span.status.status_code is StatusCode.ERROR:
        # Zipkin paints a span with this tag red.
        tags["error"] = span.status.description or tags.get("error.type", "true")
    # Zipkin knows no links.
    for number, link in enumerate(span.links):
        tags[f"link.{number}"] = f"{link.context.trace_id:032x}"
    encoded: dict[str, Any] = {
        "traceId": f"{context.trace_id:032x}",
        "id": f"{context.span_id:016x}",
        "name": span.name,
        "timestamp": start_ns // 1000,
        "duration": max(1, (end_ns - start_ns) // 1000),
        "localEndpoint": {"serviceName": span.resource.attributes["service.name"]},
        "tags": tags,
    }
    if span.parent is not None:
        encoded["parentId"] = f"{span.parent.span_id:016x}"
    if span.kind is not SpanKind.INTERNAL:
        encoded["kind"] = span.kind.name
    return encoded
