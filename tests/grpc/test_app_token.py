"""A service with an app token answers only callers that send it, and probes."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
from grpc import StatusCode, aio
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from pydantic import SecretStr

from analytics_service.__main__ import build_server
from analytics_service.store import AnalyticsStore
from chat_service.grpc.servicer import ChatServicer
from daca.analytics.v1 import analytics_pb2, analytics_pb2_grpc
from daca.chat.v1 import chat_pb2, chat_pb2_grpc
from daca_shared.calls.server import GrpcServer
from tests.fakes import channel_to, eventually, listening
from tests.grpc.refusals import Refused, refusal, send_bytes
from tests.reports import reported

TOKEN = SecretStr("the-token")
GOOD = (("dapr-api-token", "the-token"),)
BAD = {
    "none": (),
    "wrong": (("dapr-api-token", "another"),),
    "a part": (("dapr-api-token", "the-toke"),),
    "empty": (("dapr-api-token", ""),),
    "two": (*GOOD, *GOOD),
    "elsewhere": (("authorization", "the-token"),),
}
bad_tokens = pytest.mark.parametrize("metadata", BAD.values(), ids=BAD.keys())
ALICE = analytics_pb2.GetAnalyticsRequest(user_id="alice")


@pytest.fixture
async def channel(store: AnalyticsStore) -> AsyncIterator[aio.Channel]:
    server = build_server(store, app_api_token=TOKEN)
    async with listening(server), channel_to(server) as channel:
        yield channel


def assert_unauthenticated(refused: Refused) -> None:
    assert refused.code is StatusCode.UNAUTHENTICATED
    assert refused.details == "The metadata dapr-api-token is missing or wrong"
    assert refused.reasons == ["daca/BAD_APP_TOKEN"]


async def test_the_token_opens_the_service(channel: aio.Channel) -> None:
    stub = analytics_pb2_grpc.AnalyticsServiceStub(channel)
    assert (await stub.GetAnalytics(ALICE, metadata=GOOD)).analytics.message_count == 5


@bad_tokens
async def test_no_other_token_does(channel: aio.Channel, metadata: Any) -> None:
    stub = analytics_pb2_grpc.AnalyticsServiceStub(channel)
    assert_unauthenticated(await refusal(stub.GetAnalytics(ALICE, metadata=metadata)))


@bad_tokens
async def test_a_stream_is_refused_too(chat_servicer: ChatServicer, metadata: Any) -> None:
    server = GrpcServer(app_api_token=TOKEN)
    server.add(chat_pb2_grpc.add_ChatServiceServicer_to_server, chat_servicer)
    async with listening(server), channel_to(server) as channel:
        stub = chat_pb2_grpc.ChatServiceStub(channel)
        request = chat_pb2.ChatStreamRequest(user_id="alice", text="Hello")
        stream = stub.ChatStream(request, metadata=metadata)
        assert_unauthenticated(await refusal(anext(aiter(stream))))
        assert [event async for event in stub.ChatStream(request, metadata=GOOD)]


async def test_an_empty_token_lets_nobody_in(store: AnalyticsStore) -> None:
    server = build_server(store, app_api_token=SecretStr(""))
    async with listening(server), channel_to(server) as channel:
        stub = analytics_pb2_grpc.AnalyticsServiceStub(channel)
        assert_unauthenticated(await refusal(stub.GetAnalytics(ALICE)))


async def test_reflection_needs_the_token(channel: aio.Channel) -> None:
    untyped: Any = reflection_pb2_grpc
    ask = untyped.ServerReflectionStub(channel).ServerReflectionInfo
    request = reflection_pb2.ServerReflectionRequest(list_services="")
    # Without a request: grpc.aio turns one that it sends after the call's end into INTERNAL.
    assert_unauthenticated(await refusal(ask().read()))
    assert [response async for response in ask(iter([request]), metadata=GOOD)]


async def test_probes_need_no_token(channel: aio.Channel) -> None:
    stub: Any = health_pb2_grpc.HealthStub(channel)
    request = health_pb2.HealthCheckRequest()
    assert (await stub.Check(request)).status == health_pb2.HealthCheckResponse.SERVING


async def test_a_refusals_log_line_has_a_known_method_or_other(chat_servicer: ChatServicer) -> None:
    methods = ["daca.chat.v1.ChatService/Chat", "daca.chat.v1.ChatService/ChatStream"]
    server = GrpcServer(app_api_token=TOKEN)
    server.add(chat_pb2_grpc.add_ChatServiceServicer_to_server, chat_servicer)
    async with listening(server), channel_to(server) as channel:
        with reported() as report:
            for method in (*methods, "alice.Alice/Alice"):
                await refusal(send_bytes(channel, f"/{method}", b""))
            await eventually(lambda: len(report.of("daca_shared.calls.wrap")) == 3)
    found = [(line["method"], line["code"]) for line in report.of("daca_shared.calls.wrap")]
    assert found == [(told, "UNAUTHENTICATED") for told in (*methods, "_OTHER")]
