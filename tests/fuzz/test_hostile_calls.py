"""Single hostile gRPC calls: each is refused with a clear error, and the next call is answered."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from grpc import StatusCode, aio

from daca.analytics.v1 import analytics_pb2, analytics_pb2_grpc
from daca.chat.v1 import chat_pb2, chat_pb2_grpc
from tests.fuzz.hostile import STRANGE_USER_IDS, USER_IDS
from tests.grpc.refusals import Refused, refusal
from tests.real_services import Services, running_services

pytestmark = pytest.mark.asyncio(loop_scope="module")

BAD = pytest.mark.parametrize("user_id", USER_IDS.values(), ids=USER_IDS)
STRANGE = pytest.mark.parametrize("user_id", STRANGE_USER_IDS.values(), ids=STRANGE_USER_IDS)
MIB = 2**20


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def services(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Services]:
    async with running_services(tmp_path_factory.mktemp("hostile-grpc")) as services:
        yield services


async def assert_answers(services: Services) -> None:
    for channel in (services.chat, services.analytics):
        call: Any = channel.unary_unary("/grpc.health.v1.Health/Check")
        await call(b"")


def calls_as(services: Services, user_id: str, **options: Any) -> list[Any]:
    chat = chat_pb2_grpc.ChatServiceStub(services.chat)
    analytics = analytics_pb2_grpc.AnalyticsServiceStub(services.analytics)
    stream = chat.ChatStream(chat_pb2.ChatStreamRequest(user_id=user_id, text="hi"), **options)
    return [
        chat.Chat(chat_pb2.ChatRequest(user_id=user_id, text="hi"), **options),
        anext(aiter(stream)),
        chat.ListConversations(chat_pb2.ListConversationsRequest(user_id=user_id), **options),
        chat.ListMessages(chat_pb2.ListMessagesRequest(user_id=user_id), **options),
        analytics.GetAnalytics(analytics_pb2.GetAnalyticsRequest(user_id=user_id), **options),
        analytics.ListActivity(analytics_pb2.ListActivityRequest(user_id=user_id), **options),
    ]


async def refusals(calls: list[Any]) -> list[Refused]:
    return [await refusal(call) for call in calls]


@BAD
async def test_a_bad_user_id_is_an_invalid_argument(services: Services, user_id: str) -> None:
    for refused in await refusals(calls_as(services, user_id)):
        assert refused.code is StatusCode.INVALID_ARGUMENT
        assert "user_id" in refused.fields


@STRANGE
async def test_a_strange_user_id_finds_nobody_elses_count(services: Services, user_id: str) -> None:
    analytics = analytics_pb2_grpc.AnalyticsServiceStub(services.analytics)
    call = analytics.GetAnalytics(analytics_pb2.GetAnalyticsRequest(user_id=user_id))
    assert (await refusal(call)).code is StatusCode.NOT_FOUND


async def test_an_encoded_surrogate_is_an_invalid_argument(services: Services) -> None:
    call: Any = services.chat.unary_unary("/daca.chat.v1.ChatService/Chat")
    refused = await refusal(call(b"\x0a\x03\xed\xa0\x80\x12\x02hi"))
    assert refused.code is StatusCode.INVALID_ARGUMENT


async def test_a_message_over_4_mib_is_too_large(services: Services) -> None:
    for refused in await refusals(calls_as(services, "a" * (4 * MIB + 1))):
        assert refused.code is StatusCode.RESOURCE_EXHAUSTED
    await assert_answers(services)


@pytest.mark.parametrize(
    "metadata",
    [
        [("x-long", "x" * 20_000)],
        [("x-long", "x" * MIB)],
        [("x-long-bin", b"\0" * 100_000)],
        [(f"x-header-{n}", "x" * 20) for n in range(1_000)],
        [("dapr-app-id", "x")] * 1_000,
    ],
    ids=["20 KB", "1 MiB", "binary", "many", "repeated"],
)
async def test_metadata_over_the_limit_is_too_large(
    services: Services, metadata: list[tuple[str, Any]]
) -> None:
    for refused in await refusals(calls_as(services, "alice", metadata=aio.Metadata(*metadata))):
        assert refused.code is StatusCode.RESOURCE_EXHAUSTED
    await assert_answers(services)
