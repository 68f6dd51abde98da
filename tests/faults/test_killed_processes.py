"""Processes are killed or stopped under load: analytics' failures cause no errors for clients, and
every accepted message counts once.

"Return" is the moment at which the process serves again: an app's own gRPC health is SERVING, a
sidecar's API port accepts a connection, a stopped process got SIGCONT. From then on, full service
must resume within the bar: no chat after that ends without an exact count.
"""

import asyncio
import signal
import time

import pytest

from lab.load import Load, load
from lab.stack import RunningStack
from scripts.service import Service
from tests.fault_table import FULL, PAUSE_S, Report, full_only
from tests.faults.conftest import exact, full_service, kill, settle, supervised

pytestmark = pytest.mark.asyncio(loop_scope="session")

_BEFORE_S = 3.0 if FULL else 0.5


def services(system: RunningStack, who: str) -> list[Service]:
    names = {
        "analytics": [system.analytics],
        "analytics' sidecar": [f"{system.analytics}-sidecar"],
        "chat's sidecar": [f"{system.chat}-sidecar"],
        "chat": [system.chat],
        "both services": [system.analytics, system.chat],
    }[who]
    return [system.stack.services[name] for name in names]


@pytest.mark.parametrize(
    ("who", "away_s", "within_s"),
    [
        ("analytics", 2, 1),
        pytest.param("analytics", 30, 3, marks=full_only),
        ("analytics' sidecar", 0, 1),
        ("chat's sidecar", 0, 1),
        pytest.param("chat", 0, 1, marks=full_only),
        ("both services", 0, 1),
    ],
)
async def test_a_kill_costs_no_message_and_service_is_soon_full(
    system: RunningStack, report: Report, who: str, away_s: float, within_s: float
) -> None:
    async with supervised(system), load(system.url, pause_s=PAUSE_S) as running:
        await asyncio.sleep(_BEFORE_S)
        back = await kill(services(system, who), away_s)
        is_full = await full_service(running, within_s)
    figures = await settle(system, running)
    figures["full service after s"] = late_s = running.full_service_after(back)
    bar = {"every accepted message counts once": exact(figures), "full service again": is_full}
    bar |= _no_errors(running, chat_dies=who in ("chat", "both services"))
    speed = {f"full service within {within_s} s": late_s <= within_s}
    report(f"SIGKILL of {who}" + f", away {away_s} s" * bool(away_s), figures, bar, speed)


@pytest.mark.parametrize("who", [pytest.param("analytics", marks=full_only), "analytics' sidecar"])
async def test_a_stopped_process_costs_no_message(
    system: RunningStack, report: Report, who: str
) -> None:
    [service] = services(system, who)
    async with load(system.url, pause_s=PAUSE_S) as running:
        await asyncio.sleep(_BEFORE_S)
        service.signal(signal.SIGSTOP)
        try:
            await asyncio.sleep(5 if FULL else 1.5)
        finally:
            service.signal(signal.SIGCONT)
        back = time.monotonic()
        is_full = await full_service(running, within_s=1)
    figures = await settle(system, running)
    figures["full service after s"] = late_s = running.full_service_after(back)
    figures["slowest s"] = max(running.latencies_s)
    bar = {"every accepted message counts once": exact(figures), "full service again": is_full}
    bar |= _no_errors(running, chat_dies=False)
    report(f"SIGSTOP of {who}", figures, bar, {"full service within 1 s": late_s <= 1})


def _no_errors(running: Load, *, chat_dies: bool) -> dict[str, bool]:
    if chat_dies:
        # Connections break, and new ones are refused until chat is back. Clients retry.
        broken = running.failed("Connection") + running.failed("reset")
        return {"no failures but of connections": broken == running.failed()}
    return {"no failed chat": not running.failures}
