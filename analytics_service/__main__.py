"""The composition root: settings → store → servicer → server."""

import signal

if __name__ == "__main__":
    # Until there is a `stop_signal`, Ctrl-C ends us at once, even during the imports.
    signal.signal(signal.SIGINT, signal.SIG_DFL)

from daca_shared.settings import ignore_foreign_variables

ignore_foreign_variables()

import logging
from contextlib import AsyncExitStack
from functools import partial
from ipaddress import ip_address
from pathlib import Path

from dapr.proto.runtime.v1 import appcallback_pb2_grpc
from pydantic import SecretStr

from analytics_service.servicer import AnalyticsServicer
from analytics_service.settings import AnalyticsSettings
from analytics_service.store import AnalyticsStore
from daca.analytics.v1 import analytics_pb2_grpc
from daca_shared.addresses import address
from daca_shared.calls.server import GrpcServer
from daca_shared.observe.metrics import serving_metrics, watch_lag
from daca_shared.observe.tracing import tracing
from daca_shared.service import main, running, stop_signal

log = logging.getLogger("analytics_service")


def build_server(store: AnalyticsStore, *, app_api_token: SecretStr | None = None) -> GrpcServer:
    """A server, not started yet, with every servicer of this service on `store`."""
    server = GrpcServer(app_api_token=app_api_token)
    servicer = AnalyticsServicer(store)
    server.add(analytics_pb2_grpc.add_AnalyticsServiceServicer_to_server, servicer)
    server.add(appcallback_pb2_grpc.add_AppCallbackServicer_to_server, servicer)
    return server


async def run(settings: AnalyticsSettings) -> None:
    """Serve until told to stop. Raises `DomainError` or `PortTaken` if that can't begin."""
    async with AsyncExitStack() as stack:
        tracing.start(settings, "analytics_service")
        stack.push_async_callback(tracing.close)
        seed = settings.seed_demo_users
        store = await AnalyticsStore.open(settings.database, seed_demo_users=seed)
        stack.push_async_callback(store.database.close)
        # Only now: another process in our data folder, which has the port too, is named by its id.
        metrics = serving_metrics(settings, settings.metrics_port, "ANALYTICS_METRICS_PORT")
        stack.enter_context(metrics)
        stop = stop_signal()  # only now: a stop must not wait for another process's migration
        await stack.enter_async_context(running(watch_lag))
        server = build_server(store, app_api_token=settings.app_api_token)
        await stack.enter_async_context(running(partial(server.watch, store.database.check)))
        await server.start(settings.host, settings.grpc_port, "ANALYTICS_GRPC_PORT")
        where = settings.database if isinstance(settings.database, Path) else "PostgreSQL"
        listening = address(settings.host, server.port)
        log.info("serving gRPC on %s, data in %s", listening, where)
        if settings.app_api_token is None and not ip_address(settings.host).is_loopback:
            log.warning("APP_API_TOKEN is not set: who reaches %s reads and adds counts", listening)
        await stop.wait()
        log.info("stopping")
        await server.drain(settings.drain_s)
        await server.stop(settings.shutdown_grace_s)


if __name__ == "__main__":
    main("analytics_service", AnalyticsSettings, run)
