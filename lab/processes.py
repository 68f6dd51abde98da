"""Several processes of both services on one PostgreSQL, without sidecars."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx2
from pydantic import SecretStr

from lab.machine import free_port
from lab.stack import eventually
from scripts.service import Service


class Processes:
    """Chat processes, each with its own analytics process."""

    def __init__(self, folder: Path, url: SecretStr, count: int, **settings: str) -> None:
        self.analytics: list[Service] = []
        self.chats: list[Service] = []
        for n in range(count):
            ports = {"HTTP": free_port(), "gRPC": free_port()}
            analytics_port = free_port()
            environment = os.environ | {
                "DATABASE_URL": url.get_secret_value(),
                "DACA_DATA_DIR": str(folder / "unused"),
                "ANALYTICS_GRPC_PORT": str(analytics_port),
                "ANALYTICS_ADDRESS": f"127.0.0.1:{analytics_port}",
                "CHAT_HTTP_PORT": str(ports["HTTP"]),
                "CHAT_GRPC_PORT": str(ports["gRPC"]),
                "CHAT_METRICS_PORT": "0",
                "ANALYTICS_METRICS_PORT": "0",
                "OPENAI_API_KEY": "", "OPENAI_BASE_URL": "", "GEMINI_API_KEY": "",
            } | settings  # fmt: skip
            for name, services, its_ports in (
                ("analytics", self.analytics, {"gRPC": analytics_port}),
                ("chat", self.chats, ports),
            ):
                command = [sys.executable, "-m", f"{name}_service"]
                log = folder / f"{name}-{n}.log"
                services.append(Service(f"{name}-{n}", command, environment, its_ports, log))
        self.urls = [f"http://127.0.0.1:{chat.ports['HTTP']}" for chat in self.chats]
        self.client = httpx2.AsyncClient(timeout=10)

    @property
    def all(self) -> list[Service]:
        return self.analytics + self.chats

    async def serve(self) -> bool:
        """Whether all processes are ready."""
        return all([await self.is_ready(url) for url in self.urls])

    async def is_ready(self, url: str) -> bool:
        try:
            answer = await self.client.get(f"{url}/readyz")
        except httpx2.TransportError:
            return False
        return answer.status_code == 200

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        try:
            # All at once; one of them makes the tables.
            await asyncio.gather(*(service.start() for service in self.all))
            await eventually(self.serve, expected=True, timeout_s=60)
            yield
        finally:
            await asyncio.gather(*(service.stop() for service in self.all))
            await self.client.aclose()
