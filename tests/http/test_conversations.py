from datetime import UTC, datetime
from uuid import uuid4

import httpx2
import pytest

from chat_service.chat.messages import ChatMessage
from chat_service.turns.history import PastConversation
from tests.fakes import FakeChat, turn_of

WHEN = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


async def test_conversations_come_in_pages(http: httpx2.AsyncClient, chat: FakeChat) -> None:
    one, two = (PastConversation(n, uuid4(), f"title {n}", WHEN, n) for n in (2, 1))
    chat.turns.past_conversations = [one, two]
    first = (await http.get("/conversations", params={"user_id": "alice", "page_size": 1})).json()
    assert first["conversations"] == [
        {
            "session_id": str(one.session_id),
            "title": "title 2",
            "update_time": "2026-01-02T03:04:05Z",
            "turn_count": 2,
        }
    ]
    params = {"user_id": "alice", "page_token": first["next_page_token"]}
    second = (await http.get("/conversations", params=params)).json()
    assert [c["title"] for c in second["conversations"]] == ["title 1"]
    assert second["next_page_token"] == ""


async def test_messages_come_with_safe_html(http: httpx2.AsyncClient, chat: FakeChat) -> None:
    sent = ChatMessage(user_id="alice", text="<b>Hi</b>")
    turn = await chat.turns.keep(turn_of(sent, "*Hello* <script>x</script>"))
    answer = await http.get(f"/conversations/{sent.session_id}", params={"user_id": "alice"})
    (message,) = answer.json()["messages"]
    assert datetime.fromisoformat(message.pop("time")) == turn.end_time
    assert message == {
        "message_id": str(sent.message_id),
        "text": "<b>Hi</b>",
        "reply": "*Hello* <script>x</script>",
        "reply_html": "<p><em>Hello</em> &lt;script&gt;x&lt;/script&gt;</p>\n",
        "tools": [],
        "stopped": False,
    }


@pytest.mark.parametrize(
    ("path", "field"),
    [
        ("/conversations", "user_id"),
        ("/conversations?user_id=a/b", "user_id"),
        ("/conversations?user_id=alice&page_size=-1", "page_size"),
        ("/conversations?user_id=alice&page_size=x", "page_size"),
        ("/conversations?user_id=alice&page_token=%3F", "page_token"),
        ("/conversations/x?user_id=alice", "session_id"),
        ("/conversations/6f0f6a53-93d1-4c3e-8a9b-3f5c1d2e4b60?user_id=", "user_id"),
        (
            "/conversations/6f0f6a53-93d1-4c3e-8a9b-3f5c1d2e4b60?user_id=alice&page_token=%3F",
            "page_token",
        ),
    ],
)
async def test_bad_input_is_refused_by_name(
    http: httpx2.AsyncClient, path: str, field: str
) -> None:
    answer = await http.get(path)
    assert answer.status_code in (400, 422)
    assert field in answer.text
