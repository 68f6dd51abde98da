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
from analytics_service.store import AnalyticsStore
from daca.analytics.v1 import analytics_pb2, analytics_pb2_grpc
from rpc.domain import DomainError
from rpc.server import GrpcServer, PortTaken, stop_signal, tell_supervisor
from rpc.telemetry import configure_logging

log = logging.getLogger("analytics_service")
SERVICE_NAME = analytics_pb2.DESCRIPTOR.services_by_name["AnalyticsService"].full_name


async def open_store(database: Path | SecretStr, *, seed_demo_users: bool) -> AnalyticsStore:
    """The counts in a SQLite file, or in the PostgreSQL of a URL. Raises `Unavailable`."""
    if isinstance(database, Path):
        return AnalyticsStore(await SqliteCounts.open(database, seed_demo_users=seed_demo_users))
    return AnalyticsStore(await PostgresCounts.open(database, seed_demo_users=seed_demo_users))


def build_server(
    store: AnalyticsStore, *, reuse_port: bool = False, app_api_token: SecretStr | None = None
) -> GrpcServer:
    """A server, not started yet, with every servicer of this service on `store`."""
    server = GrpcServer(reuse_port=reuse_port, app_api_token=app_api_token)
    analytics_pb2_grpc.add_AnalyticsServiceServicer_to_server(AnalyticsServicer(store), server.aio)
    appcallback_pb2_grpc.add_AppCallbackServicer_to_server(InvokeServicer(store), server.aio)
    return server


async def run(settings: AnalyticsSettings) -> None:
    """Serve until SIGTERM or SIGINT."""
    stop = stop_signal()
    store = await open_store(settings.database, seed_demo_users=settings.seed_demo_users)
    try:
        server = build_server(
            store, reuse_port=settings.reuse_port, app_api_token=settings.app_api_token
        )
        await server.start([SERVICE_NAME], settings.host, settings.grpc_port, "ANALYTICS_GRPC_PORT")
        where = settings.database if isinstance(settings.database, Path) else "PostgreSQL"
        log.info("serving gRPC on %s:%d, data in %s", settings.host, server.port, where)
        tell_supervisor(settings.ready_fd)
        await stop.wait()
        log.info("stopping")
        await server.drain()
        await asyncio.sleep(settings.drain_s)
        await server.stop(settings.shutdown_grace_s)
    finally:
        await store.close()


def main() -> None:
    """Start from the environment; a set-up error ends it with one clear line."""
    settings = AnalyticsSettings.from_environment()
    configure_logging(settings.log_level, secrets=settings.secrets())
    try:
        uvloop.run(run(settings))
    except (DomainError, PortTaken) as error:
        sys.exit(f"analytics_service: {error}")


if __name__ == "__main__":
    main()
