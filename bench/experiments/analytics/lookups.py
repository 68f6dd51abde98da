"""`GetAnalytics`: the costs of the store, the sidecars, Dapr's HTTP API and a caller in Python."""

import time
from functools import partial
from pathlib import Path
from uuid import uuid4

from bench.clients import ChunkedConnection, get, go_load, http_load
from bench.measure import (
    Load,
    Sample,
    Side,
    alternate,
    at,
    closed_loop,
    median_difference,
    median_ratio,
    rate,
)
from bench.report import Bar, Result, row
from bench.systems.programs import folder, pids, python, running, sidecar
from bench.systems.stacks import Plan, our_system, services_of
from chat_service.outbox.analytics import AnalyticsClient
from daca_shared.calls.sidecar import Peer
from lab.machine import free_port
from lab.stack import RunningStack
from scripts.lib.environments import sidecar_environment

_DIRECT, _BARE_DIRECT = "Go, direct", "a bare handler: Go, direct"
_PROXIED, _BARE = "Go, two sidecars", "a bare handler: Go, two sidecars"
_IN_MEMORY = "our service from memory: Go, two sidecars"
_PYTHON, _HTTP = "our Python client, two sidecars", "Dapr's HTTP invoke"


async def run(plan: Plan) -> Result:
    """Direct, through the sidecars, and compared with a handler that does nothing."""
    result = Result("lookups", "GetAnalytics")
    if plan.caller is None:
        result.notes.append("Not measured: there was no Go to build the caller with.")
        return result
    result.notes.append(
        "One user. Two servers answer from memory (`bench/systems/in_memory.py`): a bare handler, "
        "on a grpc.aio server and uvloop, and our service as it is but for its store, with its "
        "checks, errors, ids, metrics and log. All are called through the same sidecar, and "
        "policies, of the caller's."
    )
    suffix = uuid4().hex[:8]
    app_ids = {name: f"{name}-{suffix}" for name in ("bare", "service")}
    with folder() as where:
        others = {
            name: python(name, free_port(), where, "bench.systems.in_memory", name)
            for name in app_ids
        }
        sidecars = {
            name: sidecar(plan.daprd, app, app_ids[name], "grpc", where, **sidecar_environment())
            for name, app in others.items()
        }
        async with (
            running(*others.values(), *sidecars.values()),
            our_system(where, plan, also=list(sidecars.values())) as system,
        ):
            services = services_of(system)
            del services["chat"]
            pairs = {
                name: {"analytics": others[name], "analytics' sidecar": sidecars[name]}
                for name in others
            }
            processes = dict.fromkeys((_PROXIED, _PYTHON, _HTTP), services) | {
                _DIRECT: {"analytics": services["analytics"]},
                _BARE_DIRECT: {"analytics": others["bare"]},
                _BARE: services | pairs["bare"],
                _IN_MEMORY: services | pairs["service"],
            }
            for clients in (1, 16):
                sides = [
                    Side(name, load, pids(processes[name]))
                    for name, load in _loads(
                        plan.caller, system, others["bare"].ports["gRPC"], app_ids, clients
                    ).items()
                ]
                samples = await alternate(sides, rounds=plan.rounds(5), seconds=plan.seconds())
                _judge(result, samples, clients)
    return result


def _loads(
    caller: Path, system: RunningStack, bare_port: int, app_ids: dict[str, str], clients: int
) -> dict[str, Load]:
    direct = f"127.0.0.1:{system.stack.services[system.analytics].ports['gRPC']}"
    proxy = f"127.0.0.1:{system.sidecar_port(system.chat, 'gRPC')}"
    path = f"/v1.0/invoke/{system.analytics}/method/analytics/alice"
    http_url = f"http://127.0.0.1:{system.sidecar_port(system.chat, 'HTTP')}"
    peer = Peer(proxy, (("dapr-app-id", system.analytics),))

    def through_go(target: str, app: str) -> Load:
        async def load(seconds: float) -> Sample:
            return await go_load(caller, target, seconds, app=app, clients=clients)

        return load

    return {
        _DIRECT: through_go(direct, ""),
        _BARE_DIRECT: through_go(f"127.0.0.1:{bare_port}", ""),
        _PROXIED: through_go(proxy, system.analytics),
        _BARE: through_go(proxy, app_ids["bare"]),
        _IN_MEMORY: through_go(proxy, app_ids["service"]),
        _PYTHON: partial(_python_load, peer, clients),
        _HTTP: partial(http_load, http_url, [partial(get, path)] * clients, kind=ChunkedConnection),
    }


async def _python_load(peer: Peer, clients: int, seconds: float) -> Sample:
    client = AnalyticsClient(peer)

    async def call() -> float:
        began = time.perf_counter()
        await client.message_count("alice", timeout_s=5)
        return time.perf_counter() - began

    try:
        return await closed_loop([call] * clients, seconds)
    finally:
        await client.close()


def _judge(result: Result, samples: dict[str, list[Sample]], clients: int) -> None:
    title = f"{clients} client{'s' if clients > 1 else ''}"
    result.tables[title] = {name: row(found) for name, found in samples.items()}
    # The limits that docs/performance.md derives.
    limits = (80, 90) if clients == 1 else (70, 80)
    others = (("a bare handler's", _BARE), ("our service's from memory", _IN_MEMORY))
    for (what, other), limit in zip(others, limits, strict=True):
        share = 100 * median_ratio(samples[_PROXIED], samples[other], rate)
        name = f"{title}: throughput through two sidecars, of {what}"
        result.bars.append(Bar(name, share, limit, "%", at_least=True))
    if clients == 1:
        added = median_difference(samples[_PYTHON], samples[_PROXIED], at(50))
        result.bars.append(
            Bar(f"{title}: p50 that Python as a caller adds", 1e3 * added, 0.35, "ms")
        )
