"""Two replicas of each service on one PostgreSQL, each with its sidecar, under load: they are
restarted one after another, or one dies. Clients use a load balancer to call chat, which calls
analytics by its app id."""

import asyncio
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import pytest_asyncio
from grpc import StatusCode, aio
from pydantic import SecretStr

from daca.analytics.v1 import analytics_pb2 as pb
from daca.analytics.v1 import analytics_pb2_grpc as pb_grpc
from lab.load import Load, balanced_load, percentile
from lab.postgres import Cluster, run_sql
from lab.proxied import ProxiedProcesses
from lab.stack import eventually
from scripts.service import Service
from tests.fault_table import FULL, PAUSE_S, Report
from tests.faults.conftest import count_of

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(600)]

_ROUNDS = 5 if FULL else 1
_CHATTERS, _CALLERS = 8, 8
_DEADLINE_S = 2.0


@dataclass(frozen=True)
class System:
    replicas: ProxiedProcesses
    database: SecretStr

    async def stored(self, load: Load) -> int:
        pattern = f"{load.prefix}%"
        statement = f"SELECT count(*) FROM messages WHERE user_id LIKE '{pattern}'"  # noqa: S608
        [[count]] = await run_sql(self.database, statement)
        return int(count)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def system(
    tmp_path_factory: pytest.TempPathFactory, postgres: Cluster, daprd: Path
) -> AsyncIterator[System]:
    url = await postgres.new_database()
    folder = tmp_path_factory.mktemp("proxied")
    replicas = ProxiedProcesses(folder, url, count=2, daprd=daprd, DACA_DRAIN_S="1")
    async with replicas.running():
        yield System(replicas, url)


@dataclass
class Calls:
    """How calls to analytics ended."""

    total: int = 0
    failed: Counter[str] = field(default_factory=Counter)
    times_s: list[float] = field(default_factory=list)


@asynccontextmanager
async def calling_analytics(system: System, callers: int) -> AsyncIterator[Calls]:
    """Call analytics by its app id through the sidecar of a chat replica, until the context
    ends."""
    calls = Calls()
    done = asyncio.Event()
    metadata = (("dapr-app-id", system.replicas.analytics_id),)
    port = system.replicas.sidecar_of(system.replicas.chats[0]).ports["gRPC"]

    async def keep_calling(stub: "pb_grpc.AnalyticsServiceAsyncStub") -> None:
        request = pb.GetAnalyticsRequest(user_id="nobody")
        while not done.is_set():
            began = time.monotonic()
            try:
                await stub.GetAnalytics(request, timeout=_DEADLINE_S, metadata=metadata)
            except aio.AioRpcError as error:
                if error.code() is not StatusCode.NOT_FOUND:
                    calls.failed[f"{error.code().name} {error.details()}"[:90]] += 1
            calls.total += 1
            calls.times_s.append(time.monotonic() - began)
            await asyncio.sleep(PAUSE_S)

    async with (
        aio.insecure_channel(f"127.0.0.1:{port}") as channel,
        asyncio.TaskGroup() as group,
    ):
        stub: pb_grpc.AnalyticsServiceAsyncStub = pb_grpc.AnalyticsServiceStub(channel)
        for _ in range(callers):
            group.create_task(keep_calling(stub))
        try:
            yield calls
        finally:
            done.set()


@pytest.mark.parametrize("who", ["analytics", "chat"])
async def test_rolling_restarts_fail_no_request(system: System, report: Report, who: str) -> None:
    replicas = system.replicas
    apps = replicas.analytics if who == "analytics" else replicas.chats
    # No callers for chat, as the sidecar that they use is restarted with it.
    callers = _CALLERS if who == "analytics" else 0
    async with (
        calling_analytics(system, callers) as calls,
        balanced_load(replicas.urls, _CHATTERS, PAUSE_S) as load,
    ):
        exit_codes = [await replicas.restart(app) for _ in range(_ROUNDS) for app in apps]
    await eventually(lambda: system.stored(load), len(load.accepted))
    counted = await count_of(f"127.0.0.1:{replicas.analytics[0].ports['gRPC']}", load.users)
    figures: dict[str, object] = {
        "chats": load.sent,
        "accepted": len(load.accepted),
        "failed": dict(load.failures),
        "resent": load.resent,
        "counted": counted,
        "wrong counts": load.wrong_counts[:5] or 0,
        "without a count": len(load.without_count),
        "p99 s": percentile(load.latencies_s, 99),
        "calls of analytics": calls.total,
        "failed calls": dict(calls.failed),
    }
    bar = {
        "no failed request": not load.failures and not load.resent and not calls.failed,
        "counts exact": load.sent == len(load.accepted) == counted and not load.wrong_counts,
        "exit code 0": exit_codes == [0] * len(exit_codes),
    }
    report(f"{_ROUNDS} rolling restarts of two replicas of {who}", figures, bar)


@pytest.mark.parametrize("dies", ["app and sidecar", "app"])
async def test_no_call_fails_when_one_of_two_replicas_dies(
    system: System, report: Report, dies: str
) -> None:
    analytics = system.replicas.analytics
    async with calling_analytics(system, _CALLERS) as calls:
        before = [_cpu_ticks(app) for app in analytics]
        await asyncio.sleep(1)
        used = [_cpu_ticks(app) - ticks for app, ticks in zip(analytics, before, strict=True)]
        # The replica that answers most calls, or its loss might go unnoticed: the sidecar takes two
        # addresses in turn for each call, so one of two replicas often gets all until it fails.
        app = analytics[used.index(max(used))]
        victims = [app, system.replicas.sidecar_of(app)][: 2 if dies == "app and sidecar" else 1]
        await asyncio.gather(*(victim.stop(signal.SIGKILL) for victim in victims))
        await asyncio.sleep(10 if FULL else 1)
    for victim in victims:
        await victim.start()
    await system.replicas.ready(app)
    figures: dict[str, object] = {
        "calls": calls.total,
        "failed": dict(calls.failed),
        "p99 s": percentile(calls.times_s, 99),
        "slowest s": max(calls.times_s),
        "the dead one's share of CPU": max(used) / (sum(used) or 1),
    }
    report(f"SIGKILL of a replica's {dies}", figures, {"no failed call": not calls.failed})


def _cpu_ticks(app: Service) -> int:
    """The CPU time that an app has used since its start."""
    assert app.process
    fields = Path(f"/proc/{app.process.pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])
