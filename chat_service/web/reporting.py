"""One log line and one measurement for each HTTP request."""

import logging
import time
from functools import cache, partial
from typing import Any

from prometheus_client import Histogram
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from daca_shared.observe.metrics import DURATIONS_S
from daca_shared.observe.reports import report_soon
from daca_shared.observe.requests import REQUEST_ID, Request, begin_request, shown_id

log = logging.getLogger(__name__)

_HEADER = REQUEST_ID.encode()
_PROBES = frozenset({"/healthz", "/readyz"})
# A caller may make up others; every one would be a time series of its own.
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_CLIENT_LEFT, _SERVER_ERROR = 499, 500

_requests = Histogram(
    "http_server_request_duration_seconds",
    "How long HTTP requests took, streams until their end.",
    ("http_request_method", "http_route", "http_response_status_code", "error_type"),
    buckets=DURATIONS_S,
)


@cache
def _durations(method: str, route: str, status: int, error: str) -> Any:
    return _requests.labels(method, route, status, error)


class RequestReporter:
    """Reports each request when it ends, and gives it an id that its caller is told. The
    outermost layer but for tracing: what others refuse is reported, too."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, and watch how it ends."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = time.perf_counter()
        request = begin_request(shown_id(scope["headers"], _HEADER))
        header = (_HEADER, request.id.encode())
        status, answered = 0, False

        async def watch_receive() -> Message:
            message = await receive()
            if message["type"] == "http.disconnect" and not answered:
                request.error = "cancelled"
            return message

        async def watch_send(message: Message) -> None:
            nonlocal status, answered
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", ()), header]
            elif not message.get("more_body", False):
                answered = True
            await send(message)

        try:
            await self._app(scope, watch_receive, watch_send)
        finally:
            duration_s = time.perf_counter() - began
            report_soon(partial(_report, scope, request, status, duration_s))


def _report(scope: Scope, request: Request, status: int, duration_s: float) -> None:
    method = scope["method"] if scope["method"] in _METHODS else "_OTHER"
    # Never the path: that is its caller's text, with user ids in it.
    route = scope["route"].path_format if "route" in scope else scope.get("root_path", "")
    status = status or (_CLIENT_LEFT if request.error else _SERVER_ERROR)
    error = request.error or (str(status) if status >= _SERVER_ERROR else "")
    _durations(method, route, status, error).observe(duration_s)
    level = logging.DEBUG if route in _PROBES else logging.INFO
    if log.isEnabledFor(level):
        fields: dict[str, Any] = {
            "method": method,
            "route": route,
            "status": status,
            "duration_ms": round(duration_s * 1000, 1),
        }
        if request.error:
            fields["error"] = request.error
        log.log(level, "request", extra={"request": request, "fields": fields})
