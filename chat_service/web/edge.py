"""Around every HTTP request: host check, request id, span, security headers, log, metrics."""

import asyncio
import logging
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import KW_ONLY, dataclass, field
from functools import cache
from http import HTTPMethod
from urllib.parse import urlsplit, urlunsplit

from anyio import BrokenResourceError
from opentelemetry import trace
from prometheus_client import Histogram
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from chat_service.access.admission import Admission
from chat_service.access.trusted_hosts import TrustedHosts
from chat_service.web.problems import Problem
from daca_shared.calls.errors import http_headers
from daca_shared.domain import Unavailable, stopping_error
from daca_shared.observe.logs import log_request
from daca_shared.observe.metrics import DURATIONS_S
from daca_shared.observe.requests import REQUEST_ID, begin_request
from daca_shared.observe.tracing import begin_server_span, fail, tracing

log = logging.getLogger(__name__)

# No browser should render or cache these answers. Pages set headers of their own.
_SECURITY_HEADERS = (
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"x-frame-options", b"DENY"),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cache-control", b"no-store"),
)

_PROBES = frozenset({"/healthz", "/readyz"})
# A caller may invent other methods, and each would become a time series.
_METHODS = frozenset(HTTPMethod)
_WITHOUT_BODY = frozenset({"GET", "HEAD", "DELETE", "OPTIONS"})
_CLIENT_LEFT, _SERVER_ERROR = 499, 500
_DRAIN_S, _MAX_DRAINED_BYTES = 2.0, 10_000_000

_requests = Histogram(
    "http_server_request_duration_seconds",
    "How long HTTP requests took, streams until their end.",
    ("http_request_method", "http_route", "http_response_status_code", "error_type"),
    buckets=DURATIONS_S,
)
_durations = cache(_requests.labels)


@dataclass(frozen=True)
class Edge:
    """The outermost layer, so that it also secures, logs and measures what inner layers refuse."""

    app: ASGIApp
    cors: Callable[[ASGIApp], ASGIApp]
    """Adds the CORS headers, which tell browsers which pages may read an answer."""
    hosts: TrustedHosts
    admission: Admission
    """Counts the bodies that requests hold."""
    _: KW_ONLY
    answer_timeout_s: float
    """How long answering, and the client's reading of the answer, may take together."""
    root_path: str = ""
    """A prefix that a proxy leaves in every path. Our links are relative, and don't need it."""
    body_timeout_s: float = 20
    _under_way: set["_Exchange"] = field(default_factory=set, init=False)

    def end_requests(self) -> None:
        """End all requests under way, as the service is stopping."""
        for exchange in self._under_way:
            exchange.end()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if f"{scope['path']}/".startswith(f"{self.root_path}/"):
            scope["path"] = scope["path"][len(self.root_path) :]
        exchange = _Exchange(self, scope, receive, send)
        named = Headers(scope=scope).getlist("host")
        if scope["method"] == "HEAD":
            scope["method"] = "GET"  # the server leaves out the body
        app = self.app
        is_probe, is_old = scope["path"] in _PROBES, scope["http_version"] < "1.1"
        if problem := self.hosts.problem(named, is_probe=is_probe, is_old=is_old):
            app = self.cors(Problem(400, "HOST_NOT_TRUSTED", problem))
        self._under_way.add(exchange)
        try:
            async with exchange.timeout:
                await app(scope, exchange.receive, exchange.send)
        except Exception as error:
            # If an event stream's reader leaves, FastAPI raises a group of nothing but this error.
            has_left = isinstance(error, ExceptionGroup) and not error.split(BrokenResourceError)[1]
            if exchange.timeout.expired():
                await exchange.give_up()
            elif not has_left:
                # The caller must not learn the cause, and granian doesn't log it.
                log.exception("a request failed unexpectedly")
                raise
        finally:
            self._under_way.discard(exchange)
            self.admission.let_go(exchange.held_bytes)
            exchange.report()
        if not exchange.is_body_read:
            await exchange.drain()


class _Exchange:
    """One request and its answer as they pass through this layer."""

    def __init__(self, edge: Edge, scope: Scope, receive: Receive, send: Send) -> None:
        self._edge = edge
        self._scope = scope
        self._receive = receive
        self._send = send
        self._began = time.perf_counter()
        self._method = scope["method"] if scope["method"] in _METHODS else "_OTHER"
        self._span: trace.Span = trace.INVALID_SPAN
        headers = Headers(scope=scope)
        if tracing.tracer and scope["path"] not in _PROBES:
            self._span = begin_server_span(tracing.tracer, self._method, headers)
            self._span.set_attribute("http.request.method", self._method)
            self._span.set_attribute("url.scheme", scope["scheme"])
        self._request = begin_request(headers.getlist(REQUEST_ID))
        self._status = 0
        self._complete = False
        self.held_bytes = 0
        self.is_body_read = scope["method"] in _WITHOUT_BODY
        limit_s = edge.answer_timeout_s if self.is_body_read else edge.body_timeout_s
        self.timeout = asyncio.timeout(limit_s)
        """The limit for the body and, once it has come, for the answer."""

    async def receive(self) -> Message:
        message = await self._receive()
        size = len(message.get("body", b""))
        self.held_bytes += size
        try:
            self._edge.admission.hold(size, of=self.held_bytes)
        except Unavailable as error:  # which FastAPI would report as a bad body
            raise HTTPException(503, error.message, http_headers(error)) from None
        if not self.is_body_read and not message.get("more_body", False):
            self.is_body_read = True
            self.timeout.reschedule(asyncio.get_running_loop().time() + self._edge.answer_timeout_s)
        return message

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._status = message["status"]
            present = dict(message["headers"])
            added = [header for header in _SECURITY_HEADERS if header[0] not in present]
            added.append((REQUEST_ID.encode(), self._request.id.encode()))
            if self._request.trace_id:
                added.append((b"x-trace-id", self._request.trace_id.encode()))
            message["headers"] = [*message["headers"], *added]
            if b"location" in present:
                headers = MutableHeaders(scope=message)
                # Starlette builds the URL from the Host header, which is the caller's text, and
                # without a prefix that a proxy has removed. A relative URL is always right.
                place = urlunsplit(("", "", *urlsplit(headers["location"])[2:]))
                if place.startswith("/"):
                    up = "../" * ((self._edge.root_path + self._scope["path"]).count("/") - 1)
                    headers["location"] = f"./{up}{(self._edge.root_path + place).lstrip('/')}"
        await self._send(message)
        # The last piece of a body, or a file, which the server sends by itself.
        if message["type"] != "http.response.start" and not message.get("more_body", False):
            self._complete = True

    async def drain(self) -> None:
        """Read the rest of a refused body. Otherwise the server closes the connection while the
        client is still sending, and the client doesn't see its answer."""
        size = 0
        with suppress(TimeoutError):
            async with asyncio.timeout(_DRAIN_S):
                while not self.is_body_read and size < _MAX_DRAINED_BYTES:
                    message = await self._receive()
                    self.is_body_read = not message.get("more_body", False)
                    size += len(message.get("body", b""))

    def end(self) -> None:
        if not self.timeout.expired():
            self._request.error = "stopping"
            self.timeout.reschedule(0)

    async def give_up(self) -> None:
        """The time is up: answer with an error, unless an answer has begun."""
        problem = Problem(504, "REPLY_TIMED_OUT", "The answer took too long")
        if self._request.error == "stopping":
            problem = Problem.of(stopping_error())
        elif not self.is_body_read:
            problem = Problem(408, "BODY_TIMED_OUT", "The request's body did not come in time")
        self._request.error = self._request.error or "timed_out"
        self.is_body_read = True  # no more of the body will be read
        if not self._status:
            await self._edge.cors(problem)(self._scope, self._receive, self.send)

    def report(self) -> None:
        duration_s = time.perf_counter() - self._began
        error = self._request.error or ("" if self._complete else "cancelled")
        status = self._status or (_CLIENT_LEFT if error == "cancelled" else _SERVER_ERROR)
        # Never the path, which is the caller's text and holds user ids.
        matched = self._scope.get("route")
        route = matched.path_format if matched else str(self._scope.get("root_path", ""))
        error_type = str(status) if status >= _SERVER_ERROR else error
        _durations(self._method, route, status, error_type).observe(duration_s)
        fields = {"method": self._method, "route": route, "status": status}
        fields |= {"duration_ms": round(duration_s * 1000, 1)} | ({"error": error} if error else {})
        level = logging.DEBUG if route in _PROBES else logging.INFO
        log_request(log, level, "request", self._request, fields)
        if route:
            self._span.update_name(f"{self._method} {route}")
            self._span.set_attribute("http.route", route)
        self._span.set_attribute("http.response.status_code", status)
        if error_type:
            fail(self._span, error_type if self._complete else "disconnected")
        self._span.end()
