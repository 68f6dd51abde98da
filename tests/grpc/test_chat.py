import asyncio
import time
from typing import Any
from uuid import UUID, uuid4

import pytest
from grpc import StatusCode, aio

from chat_service.chat.messages import ConversationKey
from daca.chat.v1 import chat_pb2 as pb
from daca.chat.v1 import chat_pb2_grpc as pb_grpc
from daca_shared.calls.errors import INTERNAL_MESSAGE
from daca_shared.domain import (
    DomainError,
    Failed,
    LimitReached,
    Misconfigured,
    TimedOut,
    Unavailable,
)
from tests.fakes import BAD_USER_IDS, FOREVER_S, FakeChat, eventually
from tests.grpc.refusals import assert_bad_fields, refusal, send_bytes

type Stub = pb_grpc.ChatServiceAsyncStub  # exists only for the type checker


@pytest.fixture
def stub(chat_channel: aio.Channel) -> Stub:
    return pb_grpc.ChatServiceStub(chat_channel)


def request(**fields: Any) -> pb.ChatRequest:
    return pb.ChatRequest(**{"user_id": "alice", "text": "hi", **fields})


async def test_chat_answers(stub: Stub, chat: FakeChat) -> None:
    session_id, message_id = str(uuid4()), str(uuid4())
    before_s = time.time()
    response = await stub.Chat(
        request(session_id=session_id, message_id=message_id, tags=["a", "b"])
    )
    assert before_s - 1 < response.reply_time.ToSeconds() < before_s + 5
    response.ClearField("reply_time")
    assert response == pb.ChatResponse(
        user_id="alice",
        reply="You said: hi",
        session_id=session_id,
        message_id=message_id,
        message_count=5,
        tags=["a", "b"],
        model="fake",
    )
    (turn,) = chat.turns.kept
    assert (turn.message_id, turn.conversation) == (
        UUID(message_id),
        ConversationKey("alice", UUID(session_id)),
    )


async def test_ids_are_made_where_none_are_given(stub: Stub) -> None:
    one, two = await stub.Chat(request()), await stub.Chat(request())
    ids = {UUID(i) for r in (one, two) for i in (r.session_id, r.message_id)}
    assert len(ids) == 4


async def test_a_new_users_count_is_zero_and_an_unknown_one_unset(
    stub: Stub, chat: FakeChat
) -> None:
    new = await stub.Chat(request(user_id="carol"))
    assert (new.HasField("message_count"), new.message_count) == (True, 0)
    chat.analytics.failure = Unavailable("away")
    unknown = await stub.Chat(request())
    assert not unknown.HasField("message_count")


async def test_a_message_that_is_sent_again_has_the_same_answer_and_counts_once(
    stub: Stub, chat: FakeChat
) -> None:
    sent = request(message_id=str(uuid4()), tags=["a"])
    first, second = await stub.Chat(sent), await stub.Chat(sent)
    assert first == second
    assert (len(chat.turns.kept), len(chat.agent.counts)) == (1, 1)


async def test_the_callers_deadline_reaches_the_use_case(stub: Stub, chat: FakeChat) -> None:
    chat.agent.delay_s = FOREVER_S
    refused = await refusal(stub.Chat(request(), timeout=0.2))
    assert refused.code is StatusCode.DEADLINE_EXCEEDED
    await eventually(lambda: chat.admission.chats == 0)
    assert chat.turns.kept == []


async def test_a_cancelled_call_is_not_counted(stub: Stub, chat: FakeChat) -> None:
    chat.agent.delay_s = FOREVER_S
    call = stub.Chat(request())
    await eventually(lambda: chat.agent.counts)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    await eventually(lambda: chat.admission.chats == 0)
    assert chat.turns.kept == []


@pytest.mark.parametrize(
    ("fields", "bad"),
    [
        *(({"user_id": user_id}, "user_id") for user_id in BAD_USER_IDS.values()),
        ({"text": ""}, "text"),
        ({"text": " \n\t"}, "text"),
        ({"text": "x" * 101}, "text"),
        ({"session_id": "x"}, "session_id"),
        ({"session_id": "../../etc"}, "session_id"),
        ({"message_id": "x"}, "message_id"),
        ({"message_id": "é\n"}, "message_id"),
        ({"tags": ["x"] * 21}, "tags"),
        ({"tags": ["ok", "x" * 65]}, "tags[1]"),
        ({"tags": [""]}, "tags[0]"),
    ],
)
async def test_bad_input_is_refused_by_field_and_not_counted(
    stub: Stub, chat: FakeChat, fields: dict[str, Any], bad: str
) -> None:
    assert_bad_fields(await refusal(stub.Chat(request(**fields))), [bad])
    assert (chat.turns.kept, chat.agent.counts) == ([], [])


async def test_blank_text_is_refused_in_these_words(stub: Stub) -> None:
    refused = await refusal(stub.Chat(request(text=" ")))
    assert refused.details == "Message text cannot be empty"


async def test_thousands_of_bad_tags_are_still_invalid_argument(stub: Stub, chat: FakeChat) -> None:
    refused = await refusal(stub.Chat(request(tags=["x" * 65] * 5000)))
    assert refused.code is StatusCode.INVALID_ARGUMENT
    assert chat.turns.kept == []


async def test_bytes_that_are_no_message_are_the_callers_fault(
    chat_channel: aio.Channel, chat: FakeChat
) -> None:
    refused = await refusal(send_bytes(chat_channel, "/daca.chat.v1.ChatService/Chat", b"\xff"))
    assert refused.code is StatusCode.INVALID_ARGUMENT
    assert chat.turns.kept == []


@pytest.mark.parametrize(
    ("failure", "code"),
    [
        (LimitReached("full"), StatusCode.RESOURCE_EXHAUSTED),
        (TimedOut("slow"), StatusCode.DEADLINE_EXCEEDED),
        (Unavailable("away"), StatusCode.UNAVAILABLE),
        (Misconfigured("no key"), StatusCode.FAILED_PRECONDITION),
        (Failed("lost"), StatusCode.INTERNAL),
    ],
)
async def test_each_model_failure_has_its_status(
    stub: Stub, chat: FakeChat, failure: DomainError, code: StatusCode
) -> None:
    chat.agent.failure = failure
    refused = await refusal(stub.Chat(request()))
    assert (refused.code, refused.details) == (code, failure.message)
    assert refused.reasons == [f"daca/{failure.code}"]


async def test_the_unexpected_is_internal_and_leaks_nothing(
    stub: Stub, chat: FakeChat, caplog: pytest.LogCaptureFixture
) -> None:
    chat.agent.failure = RuntimeError("pa55word")
    refused = await refusal(stub.Chat(request()))
    assert (refused.code, refused.details) == (StatusCode.INTERNAL, INTERNAL_MESSAGE)
    assert "pa55word" in caplog.text
