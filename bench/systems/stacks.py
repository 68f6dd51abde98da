"""The systems that are measured, each with its own app ids and ports."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

from bench.systems.programs import python, running, sidecar, url, wait_until_answered
from chat_service.outbox.analytics import AnalyticsClient
from chat_service.outbox.outbox import OutboxEntry
from daca_shared.calls.sidecar import Peer
from lab.machine import free_port
from lab.stack import RunningStack, running_stack
from scripts.service import Service

USERS = 1000
# So high that the code for limits runs but refuses nobody.
UNLIMITED = dict.fromkeys(("CHAT_RATE_LIMIT_USER", "CHAT_RATE_LIMIT_ADDRESS"), "100000000/second")


@dataclass(frozen=True)
class Plan:
    """The options of all experiments."""

    daprd: Path
    caller: Path | None
    """The Go caller, if Go was available to build it."""
    quick: bool
    against: Path | None = None
    """The worktree of another version to compare with."""
    direct: bool = False
    """Whether versions are compared without sidecars."""
    given_rounds: int | None = None
    """How many rounds, if the user has set that."""

    def rounds(self, full: int = 6) -> int:
        """How many times each side is measured."""
        return self.given_rounds or (2 if self.quick else full)

    def seconds(self, full: float = 2.0) -> float:
        """How long each measurement takes."""
        return min(1.0, full) if self.quick else full


def user(number: int) -> str:
    """A user id, which both designs know if `number` is below `USERS`."""
    return f"user-{number:08d}"


@asynccontextmanager
async def our_system(
    where: Path, plan: Plan, model: Service | None = None, also: Sequence[Service] = ()
) -> AsyncIterator[RunningStack]:
    """Our design with all features on and `USERS` known users. `also` are sidecars whose apps are
    called with the same policies as analytics."""

    def prepare(stack: RunningStack) -> None:
        chat = stack.stack.services[stack.chat].environment
        chat |= dict.fromkeys(("OPENAI_API_KEY", "GEMINI_API_KEY", "AUTH_JWKS_URL"), "")
        chat |= dict.fromkeys(("AUTH_JWT_SECRET", "OPENAI_BASE_URL", "CHAT_MODEL"), "")
        chat |= UNLIMITED
        if model:
            chat |= {"OPENAI_BASE_URL": f"{url(model)}/v1", "CHAT_MODEL": "bench"}
        policies = where / "resources/resiliency.yaml"
        app_ids = [sidecar.option("--app-id") for sidecar in also]
        targets = "".join(f"      {app_id}:\n        retry: unavailable\n" for app_id in app_ids)
        policies.write_text(policies.read_text().replace("    apps:\n", f"    apps:\n{targets}"))

    async with running_stack(where, plan.daprd, prepare, also=also) as system:
        await _record_users(system)
        yield system


async def _record_users(system: RunningStack) -> None:
    port = system.stack.services[system.analytics].ports["gRPC"]
    client = AnalyticsClient(Peer(f"127.0.0.1:{port}"))
    await client.record(entries(USERS))
    await client.close()


def entries(count: int) -> list[OutboxEntry]:
    """Outbox entries for `count` new messages of the known users."""
    now = datetime.now(UTC)
    return [OutboxEntry(n, uuid4(), user(n % USERS), now, None) for n in range(count)]


@dataclass(frozen=True)
class OldSystem:
    """The old design, running."""

    url: str
    services: dict[str, Service]


@asynccontextmanager
async def old_system(where: Path, plan: Plan, model: Service) -> AsyncIterator[OldSystem]:
    """Start the old design as in its tutorial."""
    suffix = uuid4().hex[:8]
    analytics_id = f"old-analytics-{suffix}"
    analytics = python("old-analytics", free_port(), where, "bench.systems.old_design", "analytics")
    chat = python("old-chat", free_port(), where, "bench.systems.old_design", "chat")
    sidecars = [
        sidecar(plan.daprd, analytics, analytics_id, "http", where),
        sidecar(plan.daprd, chat, f"old-chat-{suffix}", "http", where),
    ]
    dapr_port = sidecars[1].ports["HTTP"]
    chat.environment |= {
        "DAPR_HTTP_PORT": str(dapr_port),
        "ANALYTICS_APP_ID": analytics_id,
        "OPENAI_BASE_URL": f"{url(model)}/v1",
    }
    async with running(analytics, chat, *sidecars):
        probe = f"http://127.0.0.1:{dapr_port}/v1.0/invoke/{analytics_id}/method/analytics/alice"
        await asyncio.to_thread(wait_until_answered, probe)
        services = {
            "chat": chat,
            "analytics": analytics,
            "analytics' sidecar": sidecars[0],
            "chat's sidecar": sidecars[1],
        }
        yield OldSystem(url(chat), services)


def services_of(system: RunningStack) -> dict[str, Service]:
    """Our processes, by role."""
    found = system.stack.services
    return {
        "chat": found[system.chat],
        "analytics": found[system.analytics],
        "chat's sidecar": found[f"{system.chat}-sidecar"],
        "analytics' sidecar": found[f"{system.analytics}-sidecar"],
    }
