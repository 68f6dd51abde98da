"""Two analytics replicas behind one app id, on one database: one may die."""

import asyncio
import copy
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from grpc import StatusCode, aio

from daca.analytics.v1 import analytics_pb2 as pb
from daca.analytics.v1 import analytics_pb2_grpc as pb_grpc
from lab.load import percentile
from lab.machine import free_port
from lab.stack import RunningStack
from scripts.service import Service
from tests.fault_table import FULL, Report
from tests.faults.conftest import returned, supervised

pytestmark = pytest.mark.asyncio(loop_scope="session")

_CALLERS = 8
_DEADLINE_S = 2.0


def _twin(service: Service, ports: dict[int, int]) -> Service:
    """The same service on other ports."""
    twin = copy.copy(service)
    twin.process = None
    twin.name = f"{service.name}-2"
    twin.command = [str(ports.get(int(a), a)) if a.isdigit() else a for a in service.command]
    twin.environment = {
        name: str(ports.get(int(value), value)) if value.isdigit() else value
        for name, value in service.environment.items()
    }
    twin.ports = {use: ports.get(port, port) for use, port in service.ports.items()}
    twin.log_path = service.log_path.with_name(f"{twin.name}.log")
    return twin


@asynccontextmanager
async def second_replica(system: RunningStack) -> AsyncIterator[tuple[Service, Service]]:
    """Another analytics, and its sidecar. While it is there, and after it, chat's sidecar knows
    the addresses of those that live: it asks mdns at its start, and then twice a minute."""
    first = system.stack.services[system.analytics]
    first_sidecar = system.stack.services[f"{system.analytics}-sidecar"]
    ports = {p: free_port() for p in {*first.ports.values(), *first_sidecar.ports.values()}}
    app, sidecar = _twin(first, ports), _twin(first_sidecar, ports)
    await app.start()
    await sidecar.start()
    try:
        await returned(app)
        await sidecar.listens()
        await _ask_mdns_anew(system)
        yield app, sidecar
    finally:
        await app.stop(signal.SIGKILL)
        await sidecar.stop(signal.SIGKILL)
        # The first sidecar may have a new port, if it was restarted while this one had its own.
        await _ask_mdns_anew(system)


async def _ask_mdns_anew(system: RunningStack) -> None:
    await system.stack.services[f"{system.chat}-sidecar"].restart()
    await system.wait_until_ready()


@pytest.mark.parametrize("dies", ["app and sidecar", "app"])
async def test_no_call_fails_when_one_of_two_replicas_dies(
    system: RunningStack, report: Report, dies: str
) -> None:
    outcomes: Counter[str] = Counter()
    times_s: list[float] = []
    done = asyncio.Event()
    metadata = (("dapr-app-id", system.analytics),)
    port = system.sidecar_port(system.chat, "gRPC")

    async def ask(stub: "pb_grpc.AnalyticsServiceAsyncStub") -> None:
        request = pb.GetAnalyticsRequest(user_id="alice")
        while not done.is_set():
            began = time.monotonic()
            try:
                await stub.GetAnalytics(request, timeout=_DEADLINE_S, metadata=metadata)
                outcomes["OK"] += 1
            except aio.AioRpcError as error:
                outcomes[f"{error.code().name} {error.details()}"[:90]] += 1
            times_s.append(time.monotonic() - began)

    async with supervised(system), second_replica(system) as (app, sidecar):
        async with (
            aio.insecure_channel(f"127.0.0.1:{port}") as channel,
            asyncio.TaskGroup() as group,
        ):
            stub: pb_grpc.AnalyticsServiceAsyncStub = pb_grpc.AnalyticsServiceStub(channel)
            for _ in range(_CALLERS):
                group.create_task(ask(stub))
            both = (app, system.stack.services[system.analytics])
            before = [_cpu(one) for one in both]
            await asyncio.sleep(1)
            used = [_cpu(one) - ticks for one, ticks in zip(both, before, strict=True)]
            share = max(used) / sum(used)
            # The one that answers most, lest nobody miss it: each call takes two addresses off
            # the sidecar's list by turns, of two often the same one, until that fails.
            own = [app, sidecar], [both[1], system.stack.services[f"{system.analytics}-sidecar"]]
            victims = own[used.index(max(used))][: 2 if dies == "app and sidecar" else 1]
            for victim in victims:
                victim.signal(signal.SIGKILL)
            await asyncio.sleep(10 if FULL else 1)
            done.set()
        if victims[0] is both[1]:  # the supervisor has started it again
            await asyncio.gather(*map(returned, victims))
    calls = sum(outcomes.values())
    failures = {key: n for key, n in outcomes.items() if key != StatusCode.OK.name}
    figures = {"calls": calls, "failed": failures, "p99 s": percentile(times_s, 99)}
    figures |= {"slowest s": max(times_s)}
    figures["the dead one's share of CPU"] = share
    report(
        f"SIGKILL of a replica's {dies}",
        figures,
        {"no failed call": not failures},
    )


def _cpu(app: Service) -> int:
    """What it has used since it began, in ticks."""
    assert app.process
    fields = Path(f"/proc/{app.process.pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])
