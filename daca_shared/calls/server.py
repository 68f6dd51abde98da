"""The gRPC server of both services. It shares its port with nobody, and stops gracefully."""

import asyncio
import logging
import resource
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from typing import Any

from google.protobuf import descriptor_pool
from grpc import aio
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection, reflection_pb2_grpc
from pydantic import SecretStr

from daca_shared.addresses import PortTaken, address
from daca_shared.calls.open_calls import OpenCalls
from daca_shared.calls.wrap import Methods
from daca_shared.domain import MOMENT_S, NotFound, Unavailable, stopping_error
from daca_shared.observe.metrics import ready

# daprd ignores --app-max-concurrency for proxied calls.
_MAX_CALLS = 1024
_OPTIONS = (
    # Otherwise a second server could silently bind the same port and get half of the calls.
    ("grpc.so_reuseport", 0),
    # A client may send a keepalive ping each second, even while a model thinks. By default grpc
    # takes frequent pings without data for an attack, and closes the connection.
    ("grpc.http2.min_ping_interval_without_data_ms", 1000),
    ("grpc.keepalive_permit_without_calls", 1),
    # grpc holds calls whose answers a client doesn't read. This limits their number and, by ending
    # the connection, their age. Clients then open a new connection without losing a call.
    ("grpc.max_concurrent_streams", _MAX_CALLS),
    ("grpc.max_connection_age_ms", 600_000),
)
_CHECK_EVERY_S = 1.0
LIVENESS = "liveness"
"""The server is healthy under this name even while it isn't ready: a restart wouldn't help."""

log = logging.getLogger(__name__)


class GrpcServer(health_pb2_grpc.HealthServicer):
    """A `grpc.aio` server with the standard health and reflection services. With an
    `app_api_token`, every call but a health check must show that token.

    It reports its health itself: grpc's own servicer holds a lock while it writes to a watcher, so
    that one client that reads nothing would block all other watchers, and our stop."""

    def __init__(
        self,
        *,
        app_api_token: SecretStr | None = None,
        timeout_s: float = 60,
        max_calls: int = _MAX_CALLS,
    ) -> None:
        self._calls = OpenCalls(timeout_s, max_calls)
        self._methods = Methods(app_api_token, self._calls)
        # Otherwise one client's connections could take all open files, and so stop everything.
        # gRPC's options are 32-bit integers, which an unlimited number of files would exceed.
        files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        limits = (
            ("grpc.max_allowed_incoming_connections", min(files // 4, 1 << 30)),
            ("grpc.max_connection_age_grace_ms", int(timeout_s * 1000)),
        )
        self._server = aio.server(handlers=[self._methods], options=[*_OPTIONS, *limits])
        self.add(health_pb2_grpc.add_HealthServicer_to_server, self)
        self.port = 0
        self.problem: str | None = None
        """Why the service isn't ready, in words; None if it is."""
        self._drains = False
        self._changed = asyncio.Event()

    def add[S](self, add_to_server: Callable[[S, Any], None], servicer: S) -> None:
        """Serve `servicer`; `add_to_server` is the generated `add_…_to_server` for it."""
        add_to_server(servicer, self._methods)

    async def start(self, host: str, port: int, variable: str) -> None:
        """Listen and report healthy. `variable` is the setting that a `PortTaken` error names."""
        listed = [*self._methods.services, reflection.SERVICE_NAME]
        add_reflection = reflection_pb2_grpc.add_ServerReflectionServicer_to_server
        self.add(add_reflection, reflection.aio.ReflectionServicer(listed, _Descriptors()))
        try:
            self.port = self._server.add_insecure_port(address(host, port))
        except RuntimeError as error:
            raise PortTaken(host, port, variable) from error
        await self._server.start()
        self._report()

    async def watch(self, check: Callable[[], Awaitable[None]], timeout_s: float = 6) -> None:
        """Run for ever, and report unhealthy while `check` raises `Unavailable`, or takes longer
        than `timeout_s`, as it does while a disk hangs."""
        while True:
            problem = None
            try:
                async with asyncio.timeout(timeout_s):
                    await check()
            except Unavailable as error:
                problem = error.message
            except TimeoutError:
                problem = "The database doesn't answer"
            if problem != self.problem:
                self.problem = problem
                log.warning("not ready: %s", problem) if problem else log.info("ready again")
                self._report()
            await asyncio.sleep(_CHECK_EVERY_S)

    def _report(self) -> None:
        ready.set(not self.problem and not self._drains)
        self._changed.set()
        self._changed = asyncio.Event()

    async def drain(self, drain_s: float = 0) -> None:
        """Report unhealthy, and go on serving for `drain_s`."""
        self._drains = True
        self._report()
        await asyncio.sleep(drain_s)

    async def stop(self, grace_s: float) -> None:
        """Report unhealthy, refuse new calls, give those in flight `grace_s` to finish."""
        await self.drain(MOMENT_S)  # time to tell those who watch the health
        _end(self._calls.lasting)  # these would last for the whole grace period
        # A moment later, grpc would end the other calls without telling their callers why.
        asyncio.get_running_loop().call_later(grace_s, _end, self._calls.ordinary)
        await self._server.stop(grace_s + MOMENT_S)

    def _status(self, service: str) -> health_pb2.HealthCheckResponse:
        response = health_pb2.HealthCheckResponse
        if service not in {"", LIVENESS, *self._methods.services}:
            return response(status=response.SERVICE_UNKNOWN)
        is_up = not self._drains and (service == LIVENESS or not self.problem)
        return response(status=response.SERVING if is_up else response.NOT_SERVING)

    async def Check(self, request: Any, context: Any) -> health_pb2.HealthCheckResponse:
        status = self._status(request.service)
        if status.status == status.SERVICE_UNKNOWN:
            raise NotFound("There is no such service", code="NO_SERVICE")
        return status

    async def Watch(
        self, request: Any, context: Any
    ) -> AsyncIterator[health_pb2.HealthCheckResponse]:
        sent = None
        while True:
            # Before the yield, so that a change during it isn't missed.
            changed, status = self._changed, self._status(request.service)
            if status != sent:
                yield status
            sent = status
            await changed.wait()


class _Descriptors:
    """protobuf's descriptor pool. By itself it finds the files of services, but not of methods."""

    def __getattr__(self, name: str) -> Any:
        return getattr(descriptor_pool.Default(), name)

    def FindFileContainingSymbol(self, symbol: str) -> Any:
        with suppress(KeyError):
            return self.FindMethodByName(symbol).containing_service.file
        return descriptor_pool.Default().FindFileContainingSymbol(symbol)


def _end(calls: set[asyncio.Task[Any]]) -> None:
    for call in calls:
        call.cancel(stopping_error())
