"""Both services of a worktree, whatever its version. We rely only on their environment variables
and on their APIs."""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

from bench.systems.programs import running, sidecar, url, wait_until_answered
from bench.systems.stacks import UNLIMITED
from lab.machine import free_port
from lab.stack import UNSET
from scripts.lib.environments import sidecar_environment
from scripts.service import Service


@dataclass(frozen=True)
class Version:
    """The running services of a version."""

    url: str
    """The URL of the HTTP gateway."""
    analytics: str
    """The host:port on which `GetAnalytics` is called."""
    analytics_app: str
    """The app id to send there; empty if analytics itself answers."""
    services: dict[str, Service]
    """The processes by role."""


@asynccontextmanager
async def version(
    root: Path, where: Path, model: Service, daprd: Path | None = None
) -> AsyncIterator[Version]:
    """Start the version in the worktree `root` with that worktree's Python, and with sidecars if
    `daprd` is given. Data and logs go to the folder `where`."""
    analytics = _service(root, where, "analytics", ANALYTICS_SEED_DEMO_USERS="true")
    http_port = free_port()
    chat = _service(
        root,
        where,
        "chat",
        CHAT_HTTP_PORT=str(http_port),
        OPENAI_BASE_URL=f"{url(model)}/v1",
        CHAT_MODEL="bench",
        ANALYTICS_ADDRESS=f"127.0.0.1:{analytics.ports['gRPC']}",
        **UNLIMITED,
    )
    found = Version(
        f"http://127.0.0.1:{http_port}",
        f"127.0.0.1:{analytics.ports['gRPC']}",
        "",
        {"chat": chat, "analytics": analytics},
    )
    if daprd:
        found = _with_sidecars(found, daprd, where)
    others = [service for name, service in found.services.items() if name != "chat"]
    # Chat stops first, as it still sends what is in its outbox.
    async with running(*others), running(chat):
        # This succeeds once chat reaches analytics, which knows alice.
        await asyncio.to_thread(wait_until_answered, f"{found.url}/users/alice/analytics")
        yield found


def _service(root: Path, where: Path, name: str, **environment: str) -> Service:
    port = free_port()
    settings = {
        "DACA_DATA_DIR": str(where / "data"),
        "DAPR_GRPC_PORT": "",
        f"{name.upper()}_GRPC_PORT": str(port),
        f"{name.upper()}_METRICS_PORT": "0",
    }
    return Service(
        name,
        ["env", f"--chdir={root}", str(root / ".venv/bin/python"), "-m", f"{name}_service"],
        {**os.environ, **UNSET, **settings, **environment},
        {"gRPC": port},
        where / f"{name}.log",
    )


def _with_sidecars(direct: Version, daprd: Path, where: Path) -> Version:
    suffix = uuid4().hex[:8]
    app_ids = {name: f"{name}-{suffix}" for name in direct.services}
    beside = {
        name: sidecar(daprd, service, app_ids[name], "grpc", where, **sidecar_environment())
        for name, service in direct.services.items()
    }
    port = beside["chat"].ports["gRPC"]
    chat = direct.services["chat"]
    chat.environment |= {"DAPR_GRPC_PORT": str(port), "ANALYTICS_APP_ID": app_ids["analytics"]}
    sidecars = {"chat's sidecar": beside["chat"], "analytics' sidecar": beside["analytics"]}
    return Version(
        direct.url, f"127.0.0.1:{port}", app_ids["analytics"], direct.services | sidecars
    )
