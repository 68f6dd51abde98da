"""The composition root: settings → store → servicers → server."""

import asyncio
import logging
import sys
from pathlib import Path

import uvloop
from dapr.proto.runtime.v1 import appcallback_pb2_grpc
from pydantic import SecretStr

from analytics_service.invoke import InvokeServicer
from analytics_service.postgres import PostgresCounts
from analytics_service.servicer import AnalyticsServicer
from analytics_service.settings import AnalyticsSettings
from analytics_service.sqlite import SqliteCounts
from analytics_service.store import AnalyticsStore, Counts
from daca.analytics.v1 import analytics_pb2, analytics_pb2_grpc
from daca_shared.calls.ports import PortTaken
from daca_shared.calls.server import GrpcServer, stop_signal
from daca_shared.domain import DomainError
from daca_shared.observe.logs import configure_logging
from daca_shared.observe.metrics import serving_metrics, watch_lag
from daca_shared.observe.tracing import NO_TRACING, Tracing, choose_tracing

log = logging.getLogger("analytics_service")
SERVICE_NAME = analytics_pb2.DESCRIPTOR.services_by_name["AnalyticsService"].full_name


async def open_store(
    database: Path | SecretStr, *, seed_demo_users: bool, tracing: Tracing = NO_TRACING
) -> AnalyticsStore:
    """The counts in a SQLite file, or in the PostgreSQL of a URL. Raises `Unavailable`."""
    counts: Counts
    if isinstance(database, Path):
        counts = await SqliteCounts.open(database, seed_demo_users=seed_demo_users, tracing=tracing)
    else:
        counts = await PostgresCounts.open(
            database, seed_demo_users=seed_demo_users, tracing=tracing
        )
    return AnalyticsStore(counts)


def build_server(
    store: AnalyticsStore,
    *,
    app_api_token: SecretStr | None = None,
    tracing: Tracing = NO_TRACING,
) -> GrpcServer:
    """A server, not started yet, with every servicer of this service on `store`."""
    server = GrpcServer(app_api_token=app_api_token, tracing=tracing)
    server.add(analytics_pb2_grpc.add_AnalyticsServiceServicer_to_server, AnalyticsServicer(store))
    server.add(appcallback_pb2_grpc.add_AppCallbackServicer_to_server, InvokeServicer(store))
    return server


async def run(settings: AnalyticsSettings) -> None:
    """Serve until SIGTERM or SIGINT."""
    stop = stop_signal()
    with serving_metrics(settings, settings.metrics_port, "ANALYTICS_METRICS_PORT"):
        await _serve(settings, stop)


async def _serve(settings: AnalyticsSettings, stop: asyncio.Event) -> None:
    tracing = choose_tracing(settings, "analytics_service")
    store = await open_store(
        settings.database, seed_demo_users=settings.seed_demo_users, tracing=tracing
    )
    watching = asyncio.create_task(watch_lag())
    try:
        server = build_server(store, app_api_token=settings.app_api_token, tracing=tracing)
        await server.start([SERVICE_NAME], settings.host, settings.grpc_port, "ANALYTICS_GRPC_PORT")
        where = settings.database if isinstance(settings.database, Path) else "PostgreSQL"
        log.info("serving gRPC on %s:%d, data in %s", settings.host, server.port, where)
        await stop.wait()
        log.info("stopping")
        await server.drain()
        await asyncio.sleep(settings.drain_s)
        await server.stop(settings.shutdown_grace_s)
    finally:
        watching.cancel()
        await store.close()
        await tracing.close()


def main() -> None:
    """Start from the environment; a set-up error ends it with one clear line."""
    settings = AnalyticsSettings.from_environment()
    configure_logging(
        settings.log_level, secrets=settings.secrets(), show_user_ids=settings.log_user_ids
    )
    try:
        uvloop.run(run(settings))
    except (DomainError, PortTaken) as error:
        sys.exit(f"analytics_service: {error}")


if __name__ == "__main__":
    main()
