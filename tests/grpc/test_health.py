"""A service's health reports problems of its own database."""

import asyncio
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from analytics_service.__main__ import build_server
from analytics_service.store import AnalyticsStore
from daca_shared.calls.server import LIVENESS, GrpcServer
from daca_shared.service import running
from lab.postgres import Cluster, Place
from tests.fakes import FOREVER_S, channel_to, eventually, listening
from tests.reports import sample

SERVING = health_pb2.HealthCheckResponse.SERVING


@pytest.fixture
async def server(place: Place) -> AsyncIterator[GrpcServer]:
    """The real analytics server."""
    store = await AnalyticsStore.open(place, seed_demo_users=False)
    async with (
        listening(build_server(store)) as server,
        running(partial(server.watch, store.database.check)),
    ):
        yield server
    await store.database.close()


@pytest.fixture
async def health(server: GrpcServer) -> AsyncIterator[Any]:
    async with channel_to(server) as channel:
        yield health_pb2_grpc.HealthStub(channel)


async def serves(health: Any, service: str = "daca.analytics.v1.AnalyticsService") -> bool:
    answer = await health.Check(health_pb2.HealthCheckRequest(service=service))
    return bool(answer.status == SERVING)


def frame(kind: int, flags: int, stream: int, content: bytes) -> bytes:
    """A frame of HTTP/2 (RFC 9113, 4.1)."""
    head = len(content).to_bytes(3) + bytes([kind, flags]) + stream.to_bytes(4)
    return head + content


def header(name: str, value: str) -> bytes:
    """A header field that is not indexed (RFC 7541, 6.2.2)."""
    return b"\0" + bytes([len(name)]) + name.encode() + bytes([len(value)]) + value.encode()


async def test_a_watcher_that_reads_nothing_delays_no_health_change() -> None:
    fields = {
        ":method": "POST", ":scheme": "http", ":path": "/grpc.health.v1.Health/Watch",
        ":authority": "localhost", "te": "trailers", "content-type": "application/grpc",
    }  # fmt: skip
    no_window = frame(4, 0, 0, b"\0\4\0\0\0\0")
    asked = frame(1, 4, 1, b"".join(header(*field) for field in fields.items()))
    async with listening(GrpcServer()) as server, channel_to(server) as channel:
        _, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + no_window + frame(4, 1, 0, b""))
        writer.write(asked + frame(0, 1, 1, bytes(5)))
        await asyncio.sleep(0.5)  # its first answer waits to be read
        health: Any = health_pb2_grpc.HealthStub(channel)
        assert await serves(health, "")
        async with asyncio.timeout(10):
            await server.drain()
        assert not await serves(health, "")
        writer.close()


async def test_health_is_bad_while_the_database_is_away(
    server: GrpcServer, health: Any, place: Place, request: pytest.FixtureRequest
) -> None:
    async def not_ready() -> bool:
        return not await serves(health) and not await serves(health, "")

    assert server.problem is None
    if isinstance(place, Path):
        away = place.rename(place.with_name("away.db"))
        await eventually(not_ready)
        assert "The database can't be used" in str(server.problem)
        assert await serves(health, LIVENESS)
        away.rename(place)
    else:
        cluster: Cluster = request.getfixturevalue("postgres")
        with cluster.down("fast"):
            await eventually(not_ready)
            assert server.problem == "PostgreSQL can't be used: it can't be reached"
            assert await serves(health, LIVENESS)
    await eventually(lambda: serves(health), 10)
    assert server.problem is None


async def test_health_is_bad_while_a_disk_hangs(server: GrpcServer, health: Any) -> None:
    async def hang() -> None:
        await asyncio.sleep(FOREVER_S)

    async with running(partial(server.watch, hang, 0.05)):
        await eventually(lambda: server.problem == "The database doesn't answer")
        assert not await serves(health)


async def test_what_drains_is_not_ready_by_its_health_and_by_its_metric(
    server: GrpcServer, health: Any
) -> None:
    assert (await serves(health), sample("daca_ready")) == (True, 1)
    await server.drain()
    assert (await serves(health), sample("daca_ready")) == (False, 0)
