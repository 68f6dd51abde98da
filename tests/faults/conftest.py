"""Faults of the whole system under load."""

import asyncio
import shlex
import signal
import sqlite3
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing, suppress
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from grpc import StatusCode, aio
from grpc_health.v1 import health_pb2, health_pb2_grpc

from daca.analytics.v1 import analytics_pb2 as pb
from daca.analytics.v1 import analytics_pb2_grpc as pb_grpc
from lab.load import Load
from lab.stack import RunningStack, running_stack
from scripts.service import Service
from tests.dapr.conftest import daprd, no_keys
from tests.fakes import eventually
from tests.fault_table import FULL

__all__ = ["daprd", "no_keys"]

type Figures = dict[str, object]

_AFTER_S = 4.0 if FULL else 0.5


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def system(
    tmp_path_factory: pytest.TempPathFactory, daprd: Path
) -> AsyncIterator[RunningStack]:
    folder = tmp_path_factory.mktemp("faults")
    async with running_stack(folder, daprd) as running:
        yield running


@asynccontextmanager
async def supervised(system: RunningStack) -> AsyncIterator[None]:
    """Restart processes that die, as scripts/run.sh does."""
    async with asyncio.TaskGroup() as group:
        supervising = group.create_task(system.stack.supervise())
        try:
            yield
        finally:
            supervising.cancel()
    for service in system.stack.services.values():
        if service.ending():
            await service.start()


async def returned(service: Service) -> float:
    """Wait until the service's own gRPC port serves. Returns the time."""
    async with asyncio.timeout(60):
        if service.is_sidecar:
            await service.listens()
            return time.monotonic()
        while True:
            with suppress(aio.AioRpcError):
                await health(service.ports["gRPC"])
                return time.monotonic()
            await asyncio.sleep(0.01)


async def health(port: int) -> int:
    async with aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)
        answer = await stub.Check(health_pb2.HealthCheckRequest(), timeout=0.5)
        return int(answer.status)


async def kill(services: list[Service], away_s: float = 0) -> float:
    """Kill these with SIGKILL. The supervisor restarts them, but they first wait `away_s`. Returns
    the time at which they serve again."""
    commands = [service.command for service in services]
    processes = [service.process for service in services]
    for service in services:
        late = f"sleep {away_s}; exec {shlex.join(service.command)}"
        service.command = ["sh", "-c", late]
        service.signal(signal.SIGKILL)
    for service, process in zip(services, processes, strict=True):
        while service.process is process:
            await asyncio.sleep(0.01)
    for service, command in zip(services, commands, strict=True):
        service.command = command
    return max(await asyncio.gather(*map(returned, services)))


def database(system: RunningStack, app: str, file: str) -> Path:
    return Path(system.stack.services[app].environment["DACA_DATA_DIR"]) / file


def by_user(path: Path, statement: str, prefix: str) -> dict[str, int]:
    """The number that a statement returns for each user whose id begins with `prefix`."""
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as db:
        rows = db.execute(statement, (prefix, prefix + "\x7f")).fetchall()
    return dict(rows)


def kept_turns(chat_db: Path, prefix: str) -> dict[str, int]:
    statement = "SELECT user_id, count(*) FROM turns WHERE user_id >= ? AND user_id < ? GROUP BY 1"
    return by_user(chat_db, statement, prefix)


def stored_counts(analytics_db: Path, prefix: str) -> dict[str, int]:
    statement = "SELECT user_id, message_count FROM users WHERE user_id >= ? AND user_id < ?"
    return by_user(analytics_db, statement, prefix)


def stored_messages(analytics_db: Path, prefix: str) -> int:
    return sum(stored_counts(analytics_db, prefix).values())


async def counts_are_turns(system: RunningStack, prefix: str, timeout_s: float = 20) -> bool:
    """Whether each user's count becomes exactly the number of the user's kept turns in time."""
    chat, analytics = (
        database(system, system.chat, "chat.db"),
        database(system, system.analytics, "analytics.db"),
    )
    deadline = time.monotonic() + timeout_s
    while kept_turns(chat, prefix) != stored_counts(analytics, prefix):
        if time.monotonic() > deadline:
            return False
        await asyncio.sleep(0.05)
    return True


async def count_of(address: str, users: set[str]) -> int:
    """The sum of the users' counts, from analytics itself."""
    async with aio.insecure_channel(address) as channel:
        stub = pb_grpc.AnalyticsServiceStub(channel)
        total = 0
        for user_id in users:
            try:
                answer = await stub.GetAnalytics(
                    pb.GetAnalyticsRequest(user_id=user_id), timeout=5, wait_for_ready=True
                )
                total += answer.analytics.message_count
            except aio.AioRpcError as error:
                if error.code() != StatusCode.NOT_FOUND:
                    raise
        return total


async def settle(system: RunningStack, load: Load, timeout_s: float = 20) -> Figures:
    """The figures of a finished load, once the stored data are right or the time is up."""
    same = await counts_are_turns(system, load.prefix, timeout_s)
    path = database(system, system.analytics, "analytics.db")
    port = system.stack.services[system.analytics].ports["gRPC"]
    return {
        "chats": load.sent,
        "accepted": len(load.accepted),
        "failed": dict(load.failures),
        "given up": load.given_up,
        "resent": load.resent,
        "kept turns": sum(
            kept_turns(database(system, system.chat, "chat.db"), load.prefix).values()
        ),
        "each count is its user's turns": same,
        "stored": stored_messages(path, load.prefix),
        "counted": await count_of(f"127.0.0.1:{port}", load.users),
        "wrong counts": load.wrong_counts[:5] or 0,
    }


async def full_service(running: Load, within_s: float) -> bool:
    """Wait `within_s` for full service and, on a busy machine, up to a minute longer.

    Returns whether over 100 chats were accepted, and the replies of the last ones have a count.
    """
    await asyncio.sleep(within_s + _AFTER_S)
    try:
        await eventually(
            lambda: len(running.accepted) > 100 and running.has_counts(_AFTER_S), timeout_s=60
        )
    except TimeoutError:
        return False
    return True


def exact(figures: Figures) -> bool:
    """Whether every accepted message is kept and counted exactly once, and nothing else is."""
    return (
        figures["each count is its user's turns"] is True
        and figures["accepted"] == figures["kept turns"] == figures["stored"] == figures["counted"]
        and figures["given up"] == figures["wrong counts"] == 0
    )
