"""What both services' servers have in common: health, reflection, ports."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from grpc import StatusCode, aio
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2

from daca_shared.addresses import PortTaken
from daca_shared.calls.server import GrpcServer
from tests.fakes import channel_to
from tests.grpc.refusals import refusal, send_bytes

SERVICES = {
    "analytics_server": "daca.analytics.v1.AnalyticsService",
    "chat_server": "daca.chat.v1.ChatService",
}


@pytest.fixture(params=SERVICES)
def running(request: pytest.FixtureRequest) -> tuple[GrpcServer, str]:
    return request.getfixturevalue(request.param), SERVICES[request.param]


@pytest.fixture
async def channel(running: tuple[GrpcServer, str]) -> AsyncIterator[aio.Channel]:
    async with channel_to(running[0]) as channel:
        yield channel


async def test_health_serves_until_the_stop(
    running: tuple[GrpcServer, str], channel: aio.Channel
) -> None:
    server, name = running
    stub: Any = health_pb2_grpc.HealthStub(channel)
    for service in ("", name):
        response = await stub.Check(health_pb2.HealthCheckRequest(service=service))
        assert response.status == health_pb2.HealthCheckResponse.SERVING
    watches = [stub.Watch(health_pb2.HealthCheckRequest(service=name)) for _ in range(3)]
    for watch in watches:
        assert (await anext(aiter(watch))).status == health_pb2.HealthCheckResponse.SERVING
    # The stop doesn't wait for health watches, which never end by themselves.
    async with asyncio.timeout(10):
        await server.stop(60)
    for watch in watches:
        assert (await anext(aiter(watch))).status == health_pb2.HealthCheckResponse.NOT_SERVING
        assert await watch.code() is StatusCode.UNAVAILABLE
        assert await watch.details() == "The service is stopping"


async def test_health_of_an_unknown_service_is_not_found(channel: aio.Channel) -> None:
    stub: Any = health_pb2_grpc.HealthStub(channel)
    refused = await refusal(stub.Check(health_pb2.HealthCheckRequest(service="other")))
    assert refused.code is StatusCode.NOT_FOUND


async def reflected(channel: aio.Channel, version: str = "v1", **asked: Any) -> Any:
    untyped: Any = channel
    ask = untyped.stream_stream(
        f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo",
        request_serializer=reflection_pb2.ServerReflectionRequest.SerializeToString,
        response_deserializer=reflection_pb2.ServerReflectionResponse.FromString,
    )
    call = ask(iter([reflection_pb2.ServerReflectionRequest(**asked)]))
    (response,) = [response async for response in call]
    return response


@pytest.mark.parametrize("version", ["v1", "v1alpha"])
async def test_reflection_lists_the_services(
    running: tuple[GrpcServer, str], channel: aio.Channel, version: str
) -> None:
    response = await reflected(channel, version, list_services="")
    names = {service.name for service in response.list_services_response.service}
    assert names >= {running[1], "grpc.health.v1.Health"}


@pytest.mark.parametrize("symbol", ["grpc.health.v1.Health", "grpc.health.v1.Health.Check"])
async def test_reflection_knows_services_and_their_methods(
    channel: aio.Channel, symbol: str
) -> None:
    response = await reflected(channel, file_containing_symbol=symbol)
    assert b"HealthCheckRequest" in response.file_descriptor_response.file_descriptor_proto[0]


async def test_reflection_does_not_know_what_is_not_there(channel: aio.Channel) -> None:
    response = await reflected(channel, file_containing_symbol="grpc.health.v1.Health.Nothing")
    assert response.error_response.error_code == StatusCode.NOT_FOUND.value[0]


async def test_reflection_refuses_an_invalid_message(
    channel: aio.Channel, caplog: pytest.LogCaptureFixture
) -> None:
    untyped: Any = channel
    call = untyped.stream_stream("/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo")
    refused = await refusal(anext(aiter(call(iter([b"\xff"])))))
    assert refused.code is StatusCode.INVALID_ARGUMENT
    assert caplog.records == []


@pytest.mark.parametrize(
    "path",
    ["/none.Such/Method", "/daca.chat.v1.ChatService/None", "/grpc.health.v1.Health/List"],
)
async def test_a_missing_method_is_unimplemented(
    channel: aio.Channel, path: str, caplog: pytest.LogCaptureFixture
) -> None:
    refused = await refusal(send_bytes(channel, path, b""))
    assert refused.code is StatusCode.UNIMPLEMENTED
    assert caplog.records == []


async def test_a_second_server_cannot_share_the_port(running: tuple[GrpcServer, str]) -> None:
    port = running[0].port
    with pytest.raises(PortTaken, match=rf"{port}.*SOME_PORT"):
        await GrpcServer().start("127.0.0.1", port, "SOME_PORT")
