from collections.abc import AsyncIterator
from datetime import UTC, datetime
from uuid import uuid4

import httpx2
import pytest

from chat_service.turns.history import PastConversation, PastMessage
from chat_service.web.gateway import build_gateway
from tests.fakes import FakeChat

WHEN = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


@pytest.fixture
def chat() -> FakeChat:
    return FakeChat()


@pytest.fixture
async def http(chat: FakeChat) -> AsyncIterator[httpx2.AsyncClient]:
    app = build_gateway(chat.conversation, chat.history, chat.settled, chat.status, cors_origins=[])
    transport = httpx2.ASGITransport(app=app, raise_app_exceptions=False)
    async with httpx2.AsyncClient(transport=transport, base_url="http://test") as client:
        yield client


async def test_conversations_come_in_pages(http: httpx2.AsyncClient, chat: FakeChat) -> None:
    one, two = (PastConversation(n, uuid4(), f"title {n}", WHEN, n) for n in (2, 1))
    chat.archive.past_conversations = [one, two]
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
    chat.archive.past_messages = [
        PastMessage(1, uuid4(), "<b>Hi</b>", "*Hello* <script>x</script>", WHEN, stopped=False)
    ]
    answer = await http.get(f"/conversations/{uuid4()}", params={"user_id": "alice"})
    (message,) = answer.json()["messages"]
    assert message["text"] == "<b>Hi</b>"
    assert message["stopped"] is False
    assert message["reply_html"] == ("<p><em>Hello</em> &lt;script&gt;x&lt;/script&gt;</p>\n")


@pytest.mark.parametrize(
    ("path", "field"),
    [
        ("/conversations", "user_id"),
        ("/conversations?user_id=a/b", "user_id"),
        ("/conversations?user_id=alice&page_size=-1", "page_size"),
        ("/conversations?user_id=alice&page_size=x", "page_size"),
        ("/conversations?user_id=alice&page_token=%3F", "page_token"),
        ("/conversations/x?user_id=alice", "session_id"),
        (f"/conversations/{uuid4()}?user_id=", "user_id"),
        (f"/conversations/{uuid4()}?user_id=alice&page_token=%3F", "page_token"),
    ],
)
async def test_bad_input_is_refused_by_name(
    http: httpx2.AsyncClient, path: str, field: str
) -> None:
    answer = await http.get(path)
    assert answer.status_code in (400, 422)
    assert field in answer.text
