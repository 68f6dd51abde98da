from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import pytest
from grpc import aio

from chat_service.chat.messages import ChatMessage, Turn
from chat_service.turns.history import PastConversation
from daca.chat.v1 import chat_pb2 as pb
from daca.chat.v1 import chat_pb2_grpc as pb_grpc
from tests.fakes import BAD_USER_IDS, FakeChat, turn_of
from tests.grpc.refusals import assert_bad_fields, refusal

type Stub = pb_grpc.ChatServiceAsyncStub  # exists only for the type checker
WHEN = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
SESSION = uuid4()


@pytest.fixture
def stub(chat_channel: aio.Channel) -> Stub:
    return pb_grpc.ChatServiceStub(chat_channel)


async def test_conversations_come_in_pages(stub: Stub, chat: FakeChat) -> None:
    chat.turns.past_conversations = [
        PastConversation(n, uuid4(), f"title {n}", WHEN, 3) for n in (3, 2, 1)
    ]
    request = pb.ListConversationsRequest(user_id="alice", page_size=2)
    first = await stub.ListConversations(request)
    assert [c.title for c in first.conversations] == ["title 3", "title 2"]
    assert first.conversations[0].update_time.ToDatetime(UTC) == WHEN
    assert first.conversations[0].turn_count == 3
    request.page_token = first.next_page_token
    second = await stub.ListConversations(request)
    assert [c.title for c in second.conversations] == ["title 1"]
    assert second.next_page_token == ""


async def keep(chat: FakeChat, text: str, reply: str, *, stopped: bool = False) -> Turn:
    message = ChatMessage(user_id="alice", session_id=SESSION, text=text)
    return await chat.turns.keep(turn_of(message, reply, stopped=stopped))


async def test_messages_come_as_they_were_kept(stub: Stub, chat: FakeChat) -> None:
    kept = await keep(chat, "Hi", "*Hello*", stopped=True)
    response = await stub.ListMessages(
        pb.ListMessagesRequest(user_id="alice", session_id=str(SESSION))
    )
    (message,) = response.messages
    assert (message.message_id, message.text, message.reply, message.stopped) == (
        str(kept.message_id),
        "Hi",
        "*Hello*",
        True,
    )
    assert message.reply_time.ToDatetime(UTC) == kept.end_time


async def test_a_page_fits_into_a_clients_size_limit(stub: Stub, chat: FakeChat) -> None:
    for _ in range(80):
        await keep(chat, "\U0001f600" * 8_000, "x" * 32_000)
    request = pb.ListMessagesRequest(user_id="alice", session_id=str(SESSION), page_size=200)
    ids: list[str] = []
    while not ids or request.page_token:
        page = await stub.ListMessages(request)
        ids += [message.message_id for message in page.messages]
        request.page_token = page.next_page_token
    assert ids == [str(turn.message_id) for turn in chat.turns.kept]


@pytest.mark.parametrize(
    ("fields", "field"),
    [({"user_id": user_id}, "user_id") for user_id in BAD_USER_IDS.values()]
    + [({"page_size": -1}, "page_size"), ({"page_token": "?"}, "page_token")],
)
async def test_bad_input_is_refused_by_name(stub: Stub, fields: dict[str, Any], field: str) -> None:
    given = {"user_id": "alice", **fields}
    assert_bad_fields(
        await refusal(stub.ListConversations(pb.ListConversationsRequest(**given))), [field]
    )
    given["session_id"] = str(SESSION)
    assert_bad_fields(await refusal(stub.ListMessages(pb.ListMessagesRequest(**given))), [field])


async def test_an_invalid_session_id_is_refused(stub: Stub) -> None:
    request = pb.ListMessagesRequest(user_id="alice", session_id="x")
    assert_bad_fields(await refusal(stub.ListMessages(request)), ["session_id"])
