"""HTTP requests as spans.

FastAPI can make them too, but puts paths and queries into them, which have the ids of users.
"""

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import SpanKind
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_PROPAGATOR = TraceContextTextMapPropagator()
_PROBES = ("/healthz", "/readyz")
_SERVER_ERROR = 500


class TraceHttp:
    """A SERVER span for each request, named by its route; the answer tells the trace's id."""

    def __init__(self, app: ASGIApp, tracer: trace.Tracer) -> None:
        self._app = app
        self._tracer = tracer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, inside a span."""
        if scope["type"] != "http" or scope["path"] in _PROBES:
            await self._app(scope, receive, send)
            return
        method = scope["method"]
        span = self._tracer.start_span(
            method,
            _PROPAGATOR.extract(Headers(scope=scope), Context()),
            SpanKind.SERVER,
            {"http.request.method": method, "url.scheme": scope["scheme"]},
        )
        trace_id = f"{span.get_span_context().trace_id:032x}".encode()
        status, complete = 0, False

        async def send_traced(message: Message) -> None:
            nonlocal status, complete
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], (b"x-trace-id", trace_id)]
            await send(message)
            complete = message["type"] == "http.response.body" and not message.get("more_body")

        with trace.use_span(
            span, end_on_exit=True, record_exception=False, set_status_on_exception=False
        ):
            try:
                await self._app(scope, receive, send_traced)
            finally:
                # The router notes here which it was.
                if (route := getattr(scope.get("route"), "path_format", None)) is not None:
                    span.update_name(f"{method} {route}")
                    span.set_attribute("http.route", route)
                if status:
                    span.set_attribute("http.response.status_code", status)
                if status >= _SERVER_ERROR or not complete:
                    span.set_attribute("error.type", str(status) if complete else "disconnected")
                    span.set_status(trace.StatusCode.ERROR)
