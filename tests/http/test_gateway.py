import asyncio
import re
import time
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import quote
from uuid import UUID, uuid4

import httpx2
import pytest

from chat_service.chat.messages import ConversationKey
from daca_shared.calls.errors import INTERNAL_MESSAGE
from daca_shared.domain import (
    DomainError,
    Failed,
    LimitReached,
    Misconfigured,
    TimedOut,
    Unavailable,
)
from tests.fakes import BAD_USER_IDS, FakeChat
from tests.http.gateways import body


async def test_the_root_welcomes(http: httpx2.AsyncClient) -> None:
    response = await http.get("/")
    assert response.json() == {
        "message": "Welcome to the DACA Chat Service! Access /docs for the API documentation."
    }


@pytest.mark.parametrize(("query", "role"), [("", "guest"), ("?role=admin", "admin")])
async def test_a_user_has_a_role(http: httpx2.AsyncClient, query: str, role: str) -> None:
    response = await http.get(f"/users/alice{query}")
    assert (response.status_code, response.json()) == (200, {"user_id": "alice", "role": role})


@pytest.mark.parametrize(
    "user_id", ["alice@example.com", "Ünïcödé 😀", "a b?c#d%e", "..", "x" * 128]
)
async def test_any_other_characters_may_be_in_a_user_id(
    http: httpx2.AsyncClient, chat: FakeChat, user_id: str
) -> None:
    chat.analytics.counts[user_id] = 7
    path = f"/users/{quote(user_id, safe='').replace('.', '%2E')}"
    assert (await http.get(path)).json()["user_id"] == user_id
    assert (await http.get(f"{path}/analytics")).json() == {"message_count": 7}
    assert (await http.post("/chat/", json=body(user_id=user_id))).json()["user_id"] == user_id


async def test_a_users_analytics(http: httpx2.AsyncClient) -> None:
    response = await http.get("/users/alice/analytics")
    assert (response.status_code, response.json()) == (200, {"message_count": 5})


async def test_an_unknown_users_count_may_have_a_default(http: httpx2.AsyncClient) -> None:
    for user_id, count in (("nobody", 0), ("alice", 5)):
        response = await http.get(f"/users/{user_id}/analytics", params={"default": 0})
        assert (response.status_code, response.json()) == (200, {"message_count": count})


async def test_the_page_gets_the_maximum_text_length(http: httpx2.AsyncClient) -> None:
    assert (await http.get("/ui/limits.json")).json() == {"max_text_length": 100}


async def test_an_unknown_users_analytics_are_not_found(http: httpx2.AsyncClient) -> None:
    response = await http.get("/users/charlie/analytics")
    assert (response.status_code, response.json()["detail"]) == (404, "User not found")
    assert response.json()["code"] == "USER_NOT_FOUND"


@pytest.mark.parametrize(("failure", "status"), [(Unavailable("away"), 503), (TimedOut("x"), 504)])
async def test_analytics_that_is_down_is_reported(
    http: httpx2.AsyncClient, chat: FakeChat, failure: DomainError, status: int
) -> None:
    chat.analytics.failure = failure
    response = await http.get("/users/alice/analytics")
    assert (response.status_code, response.json()["detail"]) == (status, failure.message)


async def test_chat_answers(http: httpx2.AsyncClient, chat: FakeChat) -> None:
    message_id = str(uuid4())
    response = await http.post("/chat/", json=body(tags=["a", "b"], message_id=message_id))
    assert response.status_code == 200
    answer = response.json()
    metadata = answer.pop("metadata")
    assert answer == {
        "user_id": "alice",
        "reply_html": "<p>You said: hi</p>\n",
        "tools": [],
        "reply": "You said: hi",
        "message_id": message_id,
        "message_count": 5,
        "tags": ["a", "b"],
        "model": "fake",
    }
    assert datetime.fromisoformat(metadata["timestamp"]).utcoffset() == timedelta(0)
    (turn,) = chat.turns.kept
    session_id = UUID(metadata["session_id"])
    assert (turn.message_id, turn.conversation) == (
        UUID(message_id),
        ConversationKey("alice", session_id),
    )


@pytest.mark.parametrize("metadata", [{}, {"timestamp": "2026-01-01T00:00:00Z"}])
async def test_a_conversation_goes_on_under_its_session_id(
    http: httpx2.AsyncClient, metadata: dict[str, str]
) -> None:
    session_id = str(uuid4())
    given = {**metadata, "session_id": session_id}
    response = await http.post("/chat/", json=body(metadata=given))
    assert response.json()["metadata"]["session_id"] == session_id


@pytest.mark.parametrize("fields", [{}, {"metadata": {}}, {"metadata": {"session_id": None}}])
async def test_a_new_conversation_has_a_new_session_id(
    http: httpx2.AsyncClient, fields: dict[str, Any]
) -> None:
    answers = [(await http.post("/chat/", json=body(**fields))).json() for _ in range(2)]
    one, two = (UUID(answer["metadata"]["session_id"]) for answer in answers)
    assert one != two


async def test_an_unknown_count_is_null(http: httpx2.AsyncClient, chat: FakeChat) -> None:
    chat.analytics.failure = Unavailable("away")
    response = await http.post("/chat/", json=body())
    assert (response.status_code, response.json()["message_count"]) == (200, None)


async def test_docs_and_schema_are_served(http: httpx2.AsyncClient) -> None:
    assert "swagger" in (await http.get("/docs")).text.lower()
    paths = (await http.get("/openapi.json")).json()["paths"]
    assert "/chat/" in paths
    for operations in paths.values():
        for operation in operations.values():
            fine, *others = operation["responses"]
            assert fine in ("200", "204")
            assert {"4XX", "5XX"} <= {*others} <= {"307", "4XX", "5XX"}


async def test_the_schema_has_the_pattern_for_user_ids(http: httpx2.AsyncClient) -> None:
    schemas = (await http.get("/openapi.json")).json()["components"]["schemas"]
    rule = schemas["ChatBody"]["properties"]["user_id"]
    pattern, longest = rule["pattern"], rule["maxLength"]
    short = [user_id for user_id in BAD_USER_IDS.values() if len(user_id) <= longest]
    assert not [user_id for user_id in short if re.fullmatch(pattern, user_id)]
    assert longest == 128
    assert re.fullmatch(pattern, "Ünïcödé 😀")
    # In a regex dialect without surrogates, a pattern that names them is invalid.
    assert r"\ud" not in pattern


@pytest.mark.parametrize(
    ("failure", "status"),
    [
        (LimitReached("full"), 429),
        (TimedOut("slow"), 504),
        (Unavailable("away"), 503),
        (Misconfigured("no key"), 503),
        (Failed("lost"), 500),
    ],
)
async def test_each_model_failure_has_its_status(
    http: httpx2.AsyncClient, chat: FakeChat, failure: DomainError, status: int
) -> None:
    chat.agent.failure = failure
    response = await http.post("/chat/", json=body())
    assert (response.status_code, response.json()["detail"]) == (status, failure.message)
    assert chat.turns.kept == []


@pytest.mark.parametrize("part", ["agent", "turns"])
async def test_the_unexpected_is_500_and_leaks_nothing(
    http: httpx2.AsyncClient, chat: FakeChat, part: str
) -> None:
    getattr(chat, part).failure = RuntimeError("pa55word")
    response = await http.post("/chat/", json=body())
    assert (response.status_code, response.json()["detail"]) == (500, INTERNAL_MESSAGE)


async def test_a_users_activity(http: httpx2.AsyncClient) -> None:
    response = await http.get("/users/alice/activity")
    assert response.json() == {
        "days": [
            {"date": "2026-01-01", "message_count": 0},
            {"date": "2026-01-02", "message_count": 5},
        ]
    }
    unknown = await http.get("/users/nobody/activity")
    assert (unknown.status_code, unknown.json()["detail"]) == (404, "User not found")
    assert unknown.json()["code"] == "USER_NOT_FOUND"


@pytest.mark.parametrize("path", ["analytics", "activity"])
async def test_both_counts_include_a_message_sent_a_moment_ago(
    http: httpx2.AsyncClient, chat: FakeChat, path: str
) -> None:
    async def settled(user_id: str, timeout_s: float | None = None) -> bool:
        await asyncio.sleep(0.1)
        chat.analytics.counts[user_id] += 1
        return True

    chat.outbox.settled = settled  # type: ignore[method-assign]
    answer = (await http.get(f"/users/alice/{path}")).json()
    assert answer.get("days", [answer])[-1]["message_count"] == 6


async def test_a_message_that_is_not_counted_within_a_second_is_left_out(
    http: httpx2.AsyncClient, chat: FakeChat
) -> None:
    chat.outbox.settles = False
    started = time.monotonic()
    assert (await http.get("/users/alice/analytics")).json()["message_count"] == 5
    assert 0.9 < time.monotonic() - started < 4
    assert chat.analytics.timeouts_s == [0.5]
