"""Replicas of both services on one PostgreSQL, each with its own sidecar."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any
from uuid import uuid4

import yaml
from grpc import aio
from grpc_health.v1 import health_pb2, health_pb2_grpc
from pydantic import SecretStr

from lab.machine import free_port
from lab.processes import Processes
from lab.stack import eventually, render_resources
from scripts.lib.environments import sidecar_environment
from scripts.lib.project import ROOT
from scripts.lib.run_file import SIDECAR_USES, App, daprd_command
from scripts.service import Service

_CHECK_TIMEOUT_S = 2.0


def _configuration(folder: Path) -> Path:
    # Found by mDNS, because replicas share an app id and the table has one address per app id.
    configuration = yaml.safe_load((ROOT / "deploy/local/config.yaml").read_text())
    del configuration["spec"]["nameResolution"]
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(configuration))
    return path


class ProxiedProcesses(Processes):
    """Chat calls analytics by its app id, which all its replicas share."""

    def __init__(
        self, folder: Path, url: SecretStr, count: int, daprd: Path, **settings: str
    ) -> None:
        suffix = uuid4().hex[:8]
        self.analytics_id, self.chat_id = f"analytics-{suffix}", f"chat-{suffix}"
        super().__init__(folder, url, count, ANALYTICS_APP_ID=self.analytics_id, **settings)
        resources = render_resources(folder, self.analytics_id, self.chat_id)
        self.sidecars: dict[str, Service] = {}
        """By the name of the app's process."""
        for app in super().all:
            # All ports, also the one between sidecars, stay the same after a restart: other
            # sidecars look them up only twice a minute.
            ports = {use: free_port() for use in SIDECAR_USES}
            described = App(
                self.app_id(app),
                folder,
                app.command,
                protocol="grpc",
                config=_configuration(folder),
                resources=[resources],
                options={"log-level": "warn"},
            )
            command = daprd_command(daprd, described, port=app.ports["gRPC"], ports=ports)
            name = f"{app.name}-sidecar"
            self.sidecars[app.name] = Service(
                name, command, sidecar_environment(), ports, folder / f"{name}.log"
            )
            app.environment = app.environment | {"DAPR_GRPC_PORT": str(ports["gRPC"])}

    def app_id(self, app: Service) -> str:
        return self.analytics_id if app in self.analytics else self.chat_id

    def sidecar_of(self, app: Service) -> Service:
        return self.sidecars[app.name]

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Chat's sidecars start last, so that their first lookup finds both analytics replicas."""
        try:
            for apps in (self.analytics, self.chats):
                services = [*apps, *map(self.sidecar_of, apps)]
                await asyncio.gather(*(service.start() for service in services))
                for app in apps:
                    await self.ready(app)
            yield
        finally:
            await asyncio.gather(*(service.stop() for service in self.all))
            await asyncio.gather(*(service.stop() for service in self.sidecars.values()))
            await self.client.aclose()

    async def restart(self, app: Service) -> int | None:
        """Stop an app and then its sidecar, start both, and wait until they serve. Returns the exit
        code of the app."""
        sidecar = self.sidecar_of(app)
        code = await app.stop()
        await sidecar.stop()
        await sidecar.start()
        await app.start()
        await self.ready(app)
        return code

    async def ready(self, app: Service) -> None:
        """Wait until the app answers through its own sidecar and, if it is chat, reports over HTTP
        that it is ready."""
        await eventually(partial(self._answers, app), expected=True, timeout_s=60)
        if app in self.chats:
            url = self.urls[self.chats.index(app)]
            await eventually(partial(self.is_ready, url), expected=True, timeout_s=60)

    async def _answers(self, app: Service) -> bool:
        port = self.sidecar_of(app).ports["gRPC"]
        async with aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            stub: Any = health_pb2_grpc.HealthStub(channel)
            try:
                answer = await stub.Check(
                    health_pb2.HealthCheckRequest(),
                    timeout=_CHECK_TIMEOUT_S,
                    metadata=(("dapr-app-id", self.app_id(app)),),
                )
            except aio.AioRpcError:
                return False
        return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)
