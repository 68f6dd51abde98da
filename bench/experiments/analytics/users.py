"""`GetAnalytics` with a thousand to ten million users in the store."""

import asyncio
import os
import sqlite3
import sys
from contextlib import AsyncExitStack
from pathlib import Path

from analytics_service.store import AnalyticsStore
from bench.chart import Chart
from bench.clients import go_load
from bench.measure import Sample, Side, alternate, at, median_ratio
from bench.processes import rss_mb
from bench.report import Bar, Result, Row, row
from bench.systems.programs import folder, pids, running
from bench.systems.stacks import Plan
from lab.machine import free_port
from scripts.service import Service

_CLIENTS = 4


async def run(plan: Plan) -> Result:
    """One process per size, all running. They are asked in turn about random users."""
    result = Result("users", "GetAnalytics by the number of users")
    if plan.caller is None:
        result.notes.append("Not measured: there was no Go to build the caller with.")
        return result
    result.notes.append(
        f"Go, {_CLIENTS} clients, direct: sidecars would only hide what the store does. Each "
        "call asks for any of the users."
    )
    sizes = [10**n for n in range(3, 7 if plan.quick else 8)]
    with folder() as where:
        services = [await service_with(where, size) for size in sizes]
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(running(*services))
            sides = [
                _side(plan.caller, service, size)
                for service, size in zip(services, sizes, strict=True)
            ]
            samples = await alternate(sides, rounds=plan.rounds(), seconds=plan.seconds(3))
            rows: dict[str, Row] = {}
            for service, size in zip(services, sizes, strict=True):
                pid = service.process.pid if service.process else 0
                more = {"RSS MB": rss_mb(pid), "file MB": _file(where, size).stat().st_size / 1e6}
                rows[f"{size:,}"] = {**row(samples[str(size)]), **more}
    result.tables["By users in the store"] = rows
    least, most = samples[str(sizes[0])], samples[str(sizes[-1])]
    grown = median_ratio(most, least, at(99))
    result.bars.append(
        Bar(f"p99 with {sizes[-1]:,} users, of that with {sizes[0]:,}", grown, 1.3, "times")
    )
    lines = {
        name: [(size, float(rows[f"{size:,}"][f"{name} ms"])) for size in sizes]
        for name in ("p50", "p99")
    }
    result.charts["users"] = Chart(
        "GetAnalytics by users in the store", "users", "ms", lines, log_x=True
    )
    return result


def _file(where: Path, size: int) -> Path:
    return where / str(size) / "analytics.db"


async def service_with(where: Path, size: int) -> Service:
    """An analytics service, not started yet, whose store has so many users: user-00000000, who has
    sent one message, and so on."""
    path = _file(where, size)
    path.parent.mkdir()
    store = await AnalyticsStore.open(path, seed_demo_users=False)
    await store.database.close()
    await asyncio.to_thread(_fill, path, size)
    port = free_port()
    environment = os.environ | {
        "DACA_DATA_DIR": str(path.parent),
        "ANALYTICS_GRPC_PORT": str(port),
        "ANALYTICS_METRICS_PORT": "off",
    }
    environment.pop("DAPR_GRPC_PORT", None)
    command, log = [sys.executable, "-m", "analytics_service"], where / f"analytics-{size}.log"
    return Service(f"analytics-{size}", command, environment, {"gRPC": port}, log)


def _fill(path: Path, size: int) -> None:
    db = sqlite3.connect(path)
    # Durability costs time and isn't needed: after a power failure, we would start again.
    db.execute("PRAGMA synchronous = OFF")
    db.execute(
        """WITH RECURSIVE series (n) AS
            (SELECT 0 UNION ALL SELECT n + 1 FROM series WHERE n + 1 < ?)
        INSERT INTO users
            SELECT printf('user-%08d', n), 1 + n % 100, 1700000000000000 + n FROM series""",
        (size,),
    )
    db.commit()
    db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    db.close()


def _side(caller: Path, service: Service, size: int) -> Side:
    target = f"127.0.0.1:{service.ports['gRPC']}"

    async def load(seconds: float) -> Sample:
        return await go_load(caller, target, seconds, clients=_CLIENTS, users=size)

    return Side(str(size), load, pids({"analytics": service}))
