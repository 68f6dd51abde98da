from uuid import uuid4

import pytest
from google.protobuf.field_mask_pb2 import FieldMask
from grpc import StatusCode, aio

from chat_service.turns.history import PastConversation
from daca.chat.v1 import chat_pb2 as pb
from daca.chat.v1 import chat_pb2_grpc as pb_grpc
from tests.fakes import FakeChat
from tests.grpc.refusals import refusal
from tests.grpc.test_chat_history import SESSION, WHEN, keep

type Stub = pb_grpc.ChatServiceAsyncStub


@pytest.fixture
def stub(chat_channel: aio.Channel) -> Stub:
    return pb_grpc.ChatServiceStub(chat_channel)


def renaming(
    title: str, *mask: str, session_id: str = str(SESSION)
) -> pb.UpdateConversationRequest:
    conversation = pb.Conversation(session_id=session_id, title=title, turn_count=99)
    return pb.UpdateConversationRequest(
        user_id="alice", conversation=conversation, update_mask=FieldMask(paths=mask)
    )


@pytest.mark.parametrize("mask", [(), ("title",), ("*",)])
async def test_a_conversation_is_renamed(stub: Stub, chat: FakeChat, mask: tuple[str, ...]) -> None:
    chat.turns.past_conversations = [PastConversation(1, SESSION, "old", WHEN, 3)]
    answer = await stub.UpdateConversation(renaming(" new ", *mask))
    assert (answer.conversation.title, answer.conversation.turn_count) == ("new", 3)
    assert answer.conversation.update_time.ToDatetime(WHEN.tzinfo) == WHEN
    assert chat.turns.past_conversations[0].title == "new"


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        (renaming(""), "conversation.title"),
        (renaming(" \n"), "conversation.title"),
        (renaming("x" * 201), "conversation.title"),
        (renaming("x", session_id="x"), "conversation.session_id"),
        (renaming("x", "turn_count"), "update_mask"),
        (renaming("x", "title", "nonsense"), "update_mask"),
    ],
)
async def test_a_bad_name_is_refused_by_field(
    stub: Stub, request_: pb.UpdateConversationRequest, field: str
) -> None:
    refused = await refusal(stub.UpdateConversation(request_))
    assert (refused.code, refused.fields) == (StatusCode.INVALID_ARGUMENT, [field])


async def test_a_conversation_is_deleted_once(stub: Stub, chat: FakeChat) -> None:
    await keep(chat, "Hi", "Hello")
    request = pb.DeleteConversationRequest(user_id="alice", session_id=str(SESSION))
    await stub.DeleteConversation(request)
    assert chat.turns.kept == []
    for again in (stub.DeleteConversation(request), stub.UpdateConversation(renaming("x"))):
        gone = await refusal(again)
        assert gone.code is StatusCode.NOT_FOUND
        assert gone.reasons == ["daca/CONVERSATION_NOT_FOUND"]


async def test_the_list_can_be_filtered(stub: Stub, chat: FakeChat) -> None:
    chat.turns.past_conversations = [
        PastConversation(n, uuid4(), f"title {n}", WHEN, 3) for n in (2, 1)
    ]
    request = pb.ListConversationsRequest(user_id="alice", filter="title 1")
    assert [c.title for c in (await stub.ListConversations(request)).conversations] == ["title 1"]
    request.filter = "x" * 201
    refused = await refusal(stub.ListConversations(request))
    assert (refused.code, refused.fields) == (StatusCode.INVALID_ARGUMENT, ["filter"])


async def test_only_the_last_message_can_be_regenerated(stub: Stub, chat: FakeChat) -> None:
    first, last = [await keep(chat, text, "Hello") for text in ("one", "two")]
    request = pb.ChatRequest(
        user_id="alice",
        text="two?",
        session_id=str(SESSION),
        message_id=str(last.message_id),
        regenerate=True,
    )
    assert (await stub.Chat(request)).reply == "You said: two?"
    assert [turn.prompt for turn in chat.turns.kept] == ["one", "two?"]
    request.message_id = str(first.message_id)
    refused = await refusal(stub.Chat(request))
    assert (refused.code, refused.reasons) == (StatusCode.ABORTED, ["daca/NOT_LAST_MESSAGE"])
    request.message_id = str(uuid4())
    refused = await refusal(stub.Chat(request))
    assert (refused.code, refused.reasons) == (StatusCode.NOT_FOUND, ["daca/MESSAGE_NOT_FOUND"])
    request.message_id = ""
    refused = await refusal(stub.Chat(request))
    assert (refused.code, refused.fields) == (StatusCode.INVALID_ARGUMENT, ["message_id"])
