"""A receiver of spans (OTLP over HTTP), which keeps them."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1 import trace_pb2

_TIMEOUT_S, _POLL_S = 15, 0.05


@dataclass(frozen=True)
class ReceivedSpan:
    service: str
    name: str
    kind: str
    trace_id: str
    span_id: str
    parent_id: str
    failed: bool
    attributes: dict[str, Any] = field(hash=False)
    links: tuple[str, ...] = ()


class Receiver:
    def __init__(self) -> None:
        self.spans: list[ReceivedSpan] = []
        self.raw = bytearray()
        self.headers: list[Any] = []
        self.url = ""

    async def trace(self, trace_id: str, count: int) -> list[ReceivedSpan]:
        """The trace, once it has `count` spans."""
        async with asyncio.timeout(_TIMEOUT_S):
            while True:
                found = [span for span in self.spans if span.trace_id == trace_id]
                if len(found) >= count:
                    return found
                await asyncio.sleep(_POLL_S)

    async def first(self, wanted: Callable[[ReceivedSpan], bool]) -> ReceivedSpan:
        """The first span for which `wanted` is true, once it has come."""
        async with asyncio.timeout(_TIMEOUT_S):
            while True:
                if found := next(filter(wanted, self.spans), None):
                    return found
                await asyncio.sleep(_POLL_S)

    def take(self, body: bytes, headers: Any) -> None:
        self.raw += body
        self.headers.append(headers)
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            service = {a.key: a.value.string_value for a in resource.resource.attributes}
            for scope in resource.scope_spans:
                self.spans += [_received(service["service.name"], span) for span in scope.spans]


def _received(service: str, span: trace_pb2.Span) -> ReceivedSpan:
    values = {a.key: getattr(a.value, a.value.WhichOneof("value") or "") for a in span.attributes}
    return ReceivedSpan(
        service,
        span.name,
        trace_pb2.Span.SpanKind.Name(span.kind).removeprefix("SPAN_KIND_"),
        span.trace_id.hex(),
        span.span_id.hex(),
        span.parent_span_id.hex(),
        span.status.code == trace_pb2.Status.STATUS_CODE_ERROR,
        values,
        tuple(link.span_id.hex() for link in span.links),
    )


@contextmanager
def receiving() -> Iterator[Receiver]:
    receiver = Receiver()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            receiver.take(self.rfile.read(int(self.headers["content-length"])), self.headers)
            self.send_response(200)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        receiver.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield receiver
        finally:
            server.shutdown()
            thread.join()
