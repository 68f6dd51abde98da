"""The systems that are measured, each with app ids and ports of its own."""

import asyncio
import os
import sys
import time
import urllib.request
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from uuid import uuid4

from bench.processes import rss_mb
from chat_service.outbox.analytics import AnalyticsClient
from chat_service.outbox.outbox_rows import OutboxEntry
from daca_shared.calls.sidecar import Peer
from lab.machine import free_port
from lab.stack import RunningStack, running_stack
from scripts.service import Service

USERS = 1000
# So high that the code runs and refuses nobody.
_NO_LIMIT = "100000000/second"
_START_TIMEOUT_S = 60


@dataclass(frozen=True)
class Lab:
    """What the experiments run with."""

    daprd: Path
    caller: Path | None
    """The Go caller, if Go was there to build it."""
    quick: bool

    def rounds(self, full: int = 6) -> int:
        """How often each side is measured."""
        return 2 if self.quick else full

    def seconds(self, full: float = 2.0) -> float:
        """For how long each time."""
        return min(1.0, full) if self.quick else full


def user(number: int) -> str:
    """The id of a user whom both designs know, if below `USERS`."""
    return f"user-{number:08d}"


@contextmanager
def folder() -> Iterator[Path]:
    """A folder for data and logs, on the disk of the working folder: /tmp may be in memory,
    where a commit costs nothing."""
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
    """An app's daprd as a tutorial starts it, but on loopback only, and with `environment`."""
    ports = {"HTTP": free_port(), "gRPC": free_port(), "metrics": free_port()}
    (where / "no-resources").mkdir(exist_ok=True)
    command = [
        str(daprd), "--app-id", app_id, "--app-port", str(app.ports["gRPC"]),
        "--app-protocol", protocol, "--dapr-http-port", str(ports["HTTP"]),
        "--dapr-grpc-port", str(ports["gRPC"]), "--metrics-port", str(ports["metrics"]),
        "--dapr-listen-addresses", "127.0.0.1", "--metrics-listen-address", "127.0.0.1",
        "--dapr-internal-grpc-listen-address", "127.0.0.1",
        "--resources-path", str(where / "no-resources"), "--log-level", "warn",
    ]  # fmt: skip
    environment = {**os.environ, "DAPR_HOST_IP": "127.0.0.1"} | environment
    return Service(f"{app.name}-sidecar", command, environment, ports,
                   where / f"{app.name}-sidecar.log")  # fmt: skip


@asynccontextmanager
async def running(*services: Service) -> AsyncIterator[None]:
    """Start them, wait until they listen, stop them at the end."""
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
    """The model that answers at once."""
    model = python("model", free_port(), where, "bench.model_server")
    async with running(model):
        yield model


def url(service: Service) -> str:
    """Of a program that `python` has made."""
    return f"http://127.0.0.1:{service.ports['gRPC']}"


@asynccontextmanager
async def our_system(
    where: Path, lab: Lab, model: Service | None = None, also: Sequence[str] = ()
) -> AsyncIterator[RunningStack]:
    """Our design with everything on, which knows `USERS` users. `also` are app ids that are
    to be called with the same policies as analytics."""

    def prepare(stack: RunningStack) -> None:
        chat = stack.stack.services[stack.chat].environment
        chat |= dict.fromkeys(("OPENAI_API_KEY", "GEMINI_API_KEY", "AUTH_JWKS_URL"), "")
        chat |= dict.fromkeys(("AUTH_JWT_SECRET", "OPENAI_BASE_URL", "CHAT_MODEL"), "")
        chat |= dict.fromkeys(("CHAT_RATE_LIMIT_USER", "CHAT_RATE_LIMIT_ADDRESS"), _NO_LIMIT)
        if model:
            chat |= {"OPENAI_BASE_URL": f"{url(model)}/v1", "CHAT_MODEL": "bench"}
        policies = where / "resources/resiliency.yaml"
        targets = "".join(f"      {app_id}:\n        retry: unavailable\n" for app_id in also)
        policies.write_text(policies.read_text().replace("    apps:\n", f"    apps:\n{targets}"))

    async with running_stack(where, lab.daprd, prepare) as system:
        await _record_users(system)
        yield system


async def _record_users(system: RunningStack) -> None:
    port = system.stack.services[system.analytics].ports["gRPC"]
    client = AnalyticsClient(Peer(f"127.0.0.1:{port}"))
    await client.record(entries(USERS))
    await client.close()


def entries(count: int) -> list[OutboxEntry]:
    """New messages of as many users, as the outbox has them."""
    now = datetime.now(UTC)
    return [OutboxEntry(n, uuid4(), user(n % USERS), now, 1) for n in range(count)]


@dataclass(frozen=True)
class OldSystem:
    """The old design, running."""

    url: str
    services: dict[str, Service]


@asynccontextmanager
async def old_system(where: Path, lab: Lab, model: Service) -> AsyncIterator[OldSystem]:
    """The old design, as its tutorial runs it."""
    suffix = uuid4().hex[:8]
    analytics_id = f"old-analytics-{suffix}"
    analytics = python("old-analytics", free_port(), where, "bench.old_design", "analytics")
    chat = python("old-chat", free_port(), where, "bench.old_design", "chat")
    sidecars = [
        sidecar(lab.daprd, analytics, analytics_id, "http", where),
        sidecar(lab.daprd, chat, f"old-chat-{suffix}", "http", where),
    ]
    dapr_port = sidecars[1].ports["HTTP"]
    chat.environment |= {
        "DAPR_HTTP_PORT": str(dapr_port),
        "ANALYTICS_APP_ID": analytics_id,
        "OPENAI_BASE_URL": f"{url(model)}/v1",
    }
    async with running(analytics, chat, *sidecars):
        probe = f"http://127.0.0.1:{dapr_port}/v1.0/invoke/{analytics_id}/method/analytics/alice"
        await asyncio.to_thread(_wait_until_answered, probe)
        services = {
            "chat": chat,
            "analytics": analytics,
            "analytics' sidecar": sidecars[0],
            "chat's sidecar": sidecars[1],
        }
        yield OldSystem(url(chat), services)


def _wait_until_answered(probe: str) -> None:
    deadline = time.monotonic() + _START_TIMEOUT_S
    while True:
        try:
            with urllib.request.urlopen(probe, timeout=5):  # noqa: S310
                return
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)


def services_of(system: RunningStack) -> dict[str, Service]:
    """Our processes, by what they are."""
    found = system.stack.services
    return {
        "chat": found[system.chat],
        "analytics": found[system.analytics],
        "chat's sidecar": found[f"{system.chat}-sidecar"],
        "analytics' sidecar": found[f"{system.analytics}-sidecar"],
    }


def pids(services: dict[str, Service]) -> dict[str, int]:
    """By what they are; with the load generator, which is this process."""
    running = {n: s.process.pid for n, s in services.items() if s.process is not None}
    return {**running, "generator": os.getpid()}


def memory(services: dict[str, Service]) -> dict[str, float]:
    """RSS in MB, by what they are."""
    return {n: rss_mb(s.process.pid) for n, s in services.items() if s.process is not None}
