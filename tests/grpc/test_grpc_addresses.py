"""A server listens on any kind of address that a machine may have."""

from typing import Any

import pytest
from grpc import aio
from grpc_health.v1 import health_pb2, health_pb2_grpc

from daca_shared.addresses import address
from daca_shared.calls.server import GrpcServer


@pytest.mark.parametrize(
    ("host", "reached_at"),
    [("127.0.0.1", "127.0.0.1"), ("::1", "::1"), ("::", "::1"), ("::", "127.0.0.1")],
)
async def test_a_server_answers_at_its_address(host: str, reached_at: str) -> None:
    server = GrpcServer()
    await server.start(host, 0, "TEST_PORT")
    try:
        async with aio.insecure_channel(address(reached_at, server.port)) as channel:
            stub: Any = health_pb2_grpc.HealthStub(channel)
            answer = await stub.Check(health_pb2.HealthCheckRequest(), timeout=5)
    finally:
        await server.stop(0)
    assert answer.status == health_pb2.HealthCheckResponse.SERVING
