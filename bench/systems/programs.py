"""The programs that a measurement starts, and the folder for their files."""

import asyncio
import os
import sys
import time
import urllib.request
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from bench.processes import rss_mb
from lab.machine import free_port
from scripts.service import Service

_START_TIMEOUT_S = 60


@contextmanager
def folder() -> Iterator[Path]:
    """A folder for data and logs, on the disk of the working folder: /tmp may be in memory, where
    commits are free."""
    Path("data").mkdir(exist_ok=True)
    with TemporaryDirectory(prefix="bench-", dir="data", ignore_cleanup_errors=True) as path:
        yield Path(path).resolve()


def python(name: str, port: int, where: Path, *module: str, **environment: str) -> Service:
    """A Python program that listens on `port`, its last argument."""
    command = [sys.executable, "-m", *module, str(port)]
    return Service(
        name, command, {**os.environ, **environment}, {"gRPC": port}, where / f"{name}.log"
    )


def sidecar(
    daprd: Path, app: Service, app_id: str, protocol: str, where: Path, **environment: str
) -> Service:
    """An app's daprd, started as in a tutorial, but on loopback only and with `environment`."""
    ports = {use: free_port() for use in ("HTTP", "gRPC", "metrics", "internal gRPC")}
    (where / "no-resources").mkdir(exist_ok=True)
    command = [
        str(daprd), "--app-id", app_id, "--app-port", str(app.ports["gRPC"]),
        "--app-protocol", protocol, "--dapr-http-port", str(ports["HTTP"]),
        "--dapr-grpc-port", str(ports["gRPC"]), "--metrics-port", str(ports["metrics"]),
        "--dapr-listen-addresses", "127.0.0.1", "--metrics-listen-address", "127.0.0.1",
        "--dapr-internal-grpc-listen-address", "127.0.0.1",
        "--dapr-internal-grpc-port", str(ports["internal gRPC"]),
        "--resources-path", str(where / "no-resources"), "--log-level", "warn",
    ]  # fmt: skip
    environment = {**os.environ, "DAPR_HOST_IP": "127.0.0.1"} | environment
    return Service(f"{app.name}-sidecar", command, environment, ports,
                   where / f"{app.name}-sidecar.log")  # fmt: skip


@asynccontextmanager
async def running(*services: Service) -> AsyncIterator[None]:
    """Start the services, wait until they listen, and stop them at the end."""
    try:
        for service in services:
            await service.start()
        async with asyncio.timeout(_START_TIMEOUT_S):
            for service in services:
                if not await service.listens():
                    raise RuntimeError(f"{service.name} ended:\n{service.last_words()}")
        yield
    finally:
        await asyncio.gather(*(service.stop() for service in services))


@asynccontextmanager
async def model_server(where: Path) -> AsyncIterator[Service]:
    """A model server that answers at once."""
    model = python("model", free_port(), where, "bench.systems.model_server")
    async with running(model):
        yield model


def url(service: Service) -> str:
    """The URL of a service that `python` returned."""
    return f"http://127.0.0.1:{service.ports['gRPC']}"


def wait_until_answered(probe: str) -> None:
    """Wait until the URL `probe` answers with success; fail if it doesn't in time."""
    deadline = time.monotonic() + _START_TIMEOUT_S
    while True:
        try:
            with urllib.request.urlopen(probe, timeout=5):  # noqa: S310
                return
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)


def pids(services: dict[str, Service]) -> dict[str, int]:
    """Process ids by role, with that of the load generator, which is this process."""
    running = {n: s.process.pid for n, s in services.items() if s.process is not None}
    return {**running, "generator": os.getpid()}


def memory(services: dict[str, Service]) -> dict[str, float]:
    """RSS in MB, by role."""
    return {n: rss_mb(s.process.pid) for n, s in services.items() if s.process is not None}
