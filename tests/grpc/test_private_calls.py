"""Every method with a user id refuses all callers but that user."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
from google.protobuf.message_factory import GetMessageClass
from grpc import StatusCode, aio
from grpc_health.v1 import health_pb2, health_pb2_grpc
from limits import parse_many

from chat_service.access.rates import Rates
from chat_service.chat.messages import ChatMessage
from chat_service.grpc.servicer import ChatServicer
from chat_service.turns.history import PastConversation
from daca.chat.v1 import chat_pb2 as pb
from daca.chat.v1 import chat_pb2_grpc as pb_grpc
from tests.fakes import FakeChat, channel_to, turn_of
from tests.grpc.conftest import serving
from tests.grpc.refusals import Refused, refusal
from tests.grpc.test_chat_history import SESSION, WHEN
from tests.tokens import bearer, secret_identity, token

SERVICE = pb.DESCRIPTOR.services_by_name["ChatService"]
METHODS = list(SERVICE.methods)
EACH_METHOD = pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)


@pytest.fixture
def chat() -> FakeChat:
    return FakeChat()


@pytest.fixture
async def channel(chat: FakeChat) -> AsyncIterator[aio.Channel]:
    rates = Rates(parse_many("1/minute"))
    servicer = ChatServicer(chat.conversation, chat.turns, chat.admission, secret_identity(), rates)
    async with serving(servicer) as server, channel_to(server) as channel:
        yield channel


def good_request(method: Any) -> Any:
    fields = {"user_id": "alice", "text": "hi", "session_id": str(SESSION)}
    known = {name: fields[name] for name in method.input_type.fields_by_name if name in fields}
    request: Any = GetMessageClass(method.input_type)(**known)
    if method.name == "UpdateConversation":
        request.conversation.session_id, request.conversation.title = str(SESSION), "mine"
    return request


async def call(
    channel: aio.Channel, method: Any, request: Any, headers: dict[str, str]
) -> list[Any]:
    """All responses of the method."""
    path = f"/{SERVICE.full_name}/{method.name}"
    answer = GetMessageClass(method.output_type).FromString
    metadata = tuple(headers.items())
    if method.server_streaming:
        streamed: Any = channel.unary_stream(path, type(request).SerializeToString, answer)
        return [event async for event in streamed(request, metadata=metadata)]
    unary: Any = channel.unary_unary(path, type(request).SerializeToString, answer)
    return [await unary(request, metadata=metadata)]


async def refused(channel: aio.Channel, method: Any, request: Any, headers: Any) -> Refused:
    return await refusal(call(channel, method, request, headers))


@EACH_METHOD
async def test_only_the_user_may_call(channel: aio.Channel, chat: FakeChat, method: Any) -> None:
    request = good_request(method)
    assert request.user_id == "alice"
    for nobody in ({}, {"authorization": f"Bearer {token()}x"}):
        answer = await refused(channel, method, request, nobody)
        assert answer.code is StatusCode.UNAUTHENTICATED
        assert answer.reasons in (["daca/NO_TOKEN"], ["daca/BAD_TOKEN"])
    answer = await refused(channel, method, request, bearer("bob"))
    assert (answer.code, answer.details) == (
        StatusCode.PERMISSION_DENIED,
        "The token is not this user's",
    )
    assert answer.reasons == ["daca/TOKEN_OF_ANOTHER_USER"]
    assert chat.turns.kept == []
    chat.turns.past_conversations = [PastConversation(1, SESSION, "title", WHEN, 1)]
    sent = ChatMessage(user_id="alice", text="hi", session_id=SESSION)
    await chat.turns.keep(turn_of(sent, "hello"))
    assert await call(channel, method, request, bearer("alice"))


@EACH_METHOD
async def test_requests_are_authenticated_before_they_are_validated(
    channel: aio.Channel, method: Any
) -> None:
    empty = GetMessageClass(method.input_type)()
    answer = await refused(channel, method, empty, {})
    assert (answer.code, answer.fields) == (StatusCode.UNAUTHENTICATED, [])


@pytest.mark.parametrize("name", ["Chat", "ChatStream"])
async def test_a_message_over_the_limit_is_refused_and_not_counted(
    channel: aio.Channel, chat: FakeChat, name: str
) -> None:
    method = next(method for method in METHODS if method.name == name)
    request = good_request(method)
    await call(channel, method, request, bearer())
    answer = await refused(channel, method, request, bearer())
    assert (answer.code, answer.details) == (
        StatusCode.RESOURCE_EXHAUSTED,
        "Too many messages from this user: at most 1 per 1 minute",
    )
    assert 50 < answer.retry_after_s <= 60
    assert len(chat.turns.kept) == 1


async def test_health_stays_open(channel: aio.Channel) -> None:
    health: Any = health_pb2_grpc.HealthStub(channel)
    answer = await health.Check(health_pb2.HealthCheckRequest(service=SERVICE.full_name))
    assert answer.status == health_pb2.HealthCheckResponse.SERVING


async def test_a_call_with_two_tokens_is_refused(channel: aio.Channel) -> None:
    stub = pb_grpc.ChatServiceStub(channel)
    good = ("authorization", bearer()["authorization"])
    for metadata in ((good, good), (good, ("authorization", "x")), (("authorization", ""), good)):
        request = pb.ListConversationsRequest(user_id="alice")
        refused = await refusal(stub.ListConversations(request, metadata=metadata))
        assert refused.code is StatusCode.UNAUTHENTICATED
    await stub.ListConversations(pb.ListConversationsRequest(user_id="alice"), metadata=(good,))
