from typing import Any
from uuid import UUID, uuid4

import httpx2
import pytest

from chat_service.chat.messages import ChatMessage
from chat_service.turns.history import PastConversation
from tests.fakes import FakeChat, turn_of
from tests.http.gateways import body
from tests.http.test_conversations import WHEN
from tests.http.test_idempotency import events

SESSION = UUID("7f6f8f5e-0000-4000-8000-000000000001")
PATH = f"/conversations/{SESSION}"
ALICE = {"user_id": "alice"}


@pytest.mark.parametrize("declared", ["application/json", "application/x-www-form-urlencoded"])
async def test_a_conversation_is_renamed_also_by_curl(
    declared: str, http: httpx2.AsyncClient, chat: FakeChat
) -> None:
    chat.turns.past_conversations = [PastConversation(1, SESSION, "old", WHEN, 3)]
    headers = {"content-type": declared}
    answer = await http.patch(PATH, params=ALICE, content='{"title": " new "}', headers=headers)
    assert answer.status_code == 200
    assert answer.json() == {
        "session_id": str(SESSION),
        "title": "new",
        "update_time": "2026-01-02T03:04:05Z",
        "turn_count": 3,
    }


@pytest.mark.parametrize("sent", [{}, *({"title": bad} for bad in ("", " \n", "x" * 201, 5, None))])
async def test_a_bad_title_is_refused_by_name(
    http: httpx2.AsyncClient, chat: FakeChat, sent: dict[str, Any]
) -> None:
    chat.turns.past_conversations = [PastConversation(1, SESSION, "old", WHEN, 3)]
    answer = await http.patch(PATH, params=ALICE, json=sent)
    assert answer.status_code == 422
    assert "title" in str(answer.json()["detail"])
    assert chat.turns.past_conversations[0].title == "old"


async def test_a_title_of_many_kilobytes_is_not_even_read(http: httpx2.AsyncClient) -> None:
    answer = await http.patch(PATH, params=ALICE, json={"title": "x" * 20_000})
    assert (answer.status_code, answer.json()["code"]) == (413, "BODY_TOO_LARGE")


async def test_a_conversation_is_deleted_once(http: httpx2.AsyncClient, chat: FakeChat) -> None:
    sent = ChatMessage(user_id="alice", text="hi", session_id=SESSION)
    await chat.turns.keep(turn_of(sent, "hello"))
    assert (await http.delete(PATH, params={"user_id": "bob"})).status_code == 404
    answer = await http.delete(PATH, params=ALICE)
    assert (answer.status_code, answer.content) == (204, b"")
    assert chat.turns.kept == []
    for again in (
        http.delete(PATH, params=ALICE),
        http.patch(PATH, params=ALICE, json={"title": "x"}),
    ):
        gone = await again
        assert (gone.status_code, gone.json()["detail"]) == (404, "Conversation not found")
        assert gone.json()["code"] == "CONVERSATION_NOT_FOUND"


async def test_the_list_can_be_filtered(http: httpx2.AsyncClient, chat: FakeChat) -> None:
    chat.turns.past_conversations = [
        PastConversation(n, uuid4(), f"title {n}", WHEN, 3) for n in (2, 1)
    ]
    answer = await http.get("/conversations", params={**ALICE, "filter": "title 1"})
    assert [c["title"] for c in answer.json()["conversations"]] == ["title 1"]
    refused = await http.get("/conversations", params={**ALICE, "filter": "x" * 201})
    assert (refused.status_code, "filter" in refused.text) == (422, True)


@pytest.mark.parametrize("path", ["/chat/", "/chat/stream"])
async def test_only_the_last_message_can_be_regenerated(
    http: httpx2.AsyncClient, chat: FakeChat, path: str
) -> None:
    first, last = [
        await chat.turns.keep(
            turn_of(ChatMessage(user_id="alice", text=text, session_id=SESSION), "")
        )
        for text in ("one", "two")
    ]
    sent = body(text="two?", metadata={"session_id": str(SESSION)}, regenerate=True)
    answer = await http.post(path, json=sent | {"message_id": str(last.message_id)})
    whole = answer.json() if path == "/chat/" else events(answer)[-1][1]
    assert (whole["reply"], whole["message_id"]) == ("You said: two?", str(last.message_id))
    assert [turn.prompt for turn in chat.turns.kept] == ["one", "two?"]
    for message_id, status, code, word in (
        (first.message_id, 409, "NOT_LAST_MESSAGE", "last message"),
        (uuid4(), 404, "MESSAGE_NOT_FOUND", "message_id"),
    ):
        answer = await http.post(path, json=sent | {"message_id": str(message_id)})
        if path == "/chat/":
            told = answer.json() | {"status": answer.status_code}
        else:
            (told,) = [data for event, data in events(answer) if event == "error"]
        assert (told["status"], told["code"], word in told["detail"]) == (status, code, True)
    answer = await http.post(path, json=sent)
    assert (answer.status_code, "message_id" in answer.json()["detail"]) == (400, True)
