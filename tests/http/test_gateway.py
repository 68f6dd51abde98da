import json
import re
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote
from uuid import UUID, uuid4

import httpx2
import pytest

from chat_service.health.status import LastCall
from chat_service.web.gateway import build_gateway
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

PAGE = "http://localhost:3000"
FORM = "application/x-www-form-urlencoded"


@pytest.fixture
def chat() -> FakeChat:
    return FakeChat()


@pytest.fixture
async def http(chat: FakeChat) -> AsyncIterator[httpx2.AsyncClient]:
    app = build_gateway(
        chat.conversation, chat.history, chat.settled, chat.status, cors_origins=[PAGE]
    )
    transport = httpx2.ASGITransport(app=app, raise_app_exceptions=False)
    async with httpx2.AsyncClient(transport=transport, base_url="http://test") as client:
        yield client


def body(**fields: Any) -> dict[str, Any]:
    return {"user_id": "alice", "text": "hi", **fields}


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


async def test_an_unknown_users_analytics_are_not_found(http: httpx2.AsyncClient) -> None:
    response = await http.get("/users/charlie/analytics")
    assert (response.status_code, response.json()) == (404, {"detail": "User not found"})


@pytest.mark.parametrize(("failure", "status"), [(Unavailable("away"), 503), (TimedOut("x"), 504)])
async def test_analytics_that_is_away_is_told_so(
    http: httpx2.AsyncClient, chat: FakeChat, failure: DomainError, status: int
) -> None:
    chat.analytics.failure = failure
    response = await http.get("/users/alice/analytics")
    assert (response.status_code, response.json()) == (status, {"detail": failure.message})


async def test_chat_answers(http: httpx2.AsyncClient, chat: FakeChat) -> None:
    message_id = str(uuid4())
    response = await http.post("/chat/", json=body(tags=["a", "b"], message_id=message_id))
    assert response.status_code == 200
    answer = response.json()
    metadata = answer.pop("metadata")
    assert answer == {
        "user_id": "alice",
        "reply_html": "<p>You said: hi</p>\n",
        "reply": "You said: hi",
        "message_id": message_id,
        "message_count": 5,
        "tags": ["a", "b"],
        "model": "fake",
    }
    assert datetime.fromisoformat(metadata["timestamp"]).utcoffset() == timedelta(0)
    assert [str(message.message_id) for message in chat.outbox.accepted] == [message_id]


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
        (operation,) = operations.values()
        assert {*operation["responses"]} == {"200", "4XX", "5XX"}


async def test_the_schema_knows_the_rule_for_user_ids(http: httpx2.AsyncClient) -> None:
    schemas = (await http.get("/openapi.json")).json()["components"]["schemas"]
    pattern = schemas["ChatBody"]["properties"]["user_id"]["pattern"]
    assert not [user_id for user_id in BAD_USER_IDS.values() if re.fullmatch(pattern, user_id)]
    assert re.fullmatch(pattern, "Ünïcödé 😀")
    # Where a dialect has no surrogates, a pattern that names them is no pattern.
    assert r"\ud" not in pattern


async def test_liveness_does_not_depend_on_analytics(
    http: httpx2.AsyncClient, chat: FakeChat
) -> None:
    chat.analytics.failure = Unavailable("away")
    response = await http.get("/healthz")
    assert (response.status_code, response.json()) == (200, {"status": "ok"})


@pytest.mark.parametrize(
    ("failure", "said"), [(None, "ok"), (Unavailable("away"), "away, by a fake")]
)
async def test_readiness_reports_analytics(
    http: httpx2.AsyncClient, chat: FakeChat, failure: DomainError | None, said: str
) -> None:
    chat.analytics.failure = failure
    response = await http.get("/readyz")
    assert response.status_code == 200
    assert response.json() == {"status": "ready", "analytics": said, "outbox": "empty"}


async def test_readiness_tells_what_waits(http: httpx2.AsyncClient) -> None:
    await http.post("/chat/", json=body())
    response = await http.get("/readyz")
    assert response.json()["outbox"] == "1 messages wait to be counted, the oldest for 90 s"


@pytest.mark.parametrize("missing", ["stopping", "database"])
async def test_who_is_not_ready_says_what_is_missing(
    http: httpx2.AsyncClient, chat: FakeChat, missing: str
) -> None:
    chat.stopping = missing == "stopping"
    chat.outbox.failure = Unavailable("away") if missing == "database" else None
    response = await http.get("/readyz")
    assert response.status_code == 503
    assert missing in response.json()["detail"]


async def test_the_status_tells_how_things_stand(http: httpx2.AsyncClient, chat: FakeChat) -> None:
    chat.analytics.last_call = LastCall(method="M", outcome="OK", time=datetime.now(UTC))
    chat.load.turned_away = 3
    report = (await http.get("/status")).json()
    assert (report["model"], report["analytics"], report["outbox"]) == ("fake", "ok", "empty")
    assert report["analytics_last_call"]["outcome"] == "OK"
    assert (report["analytics_way"], report["chats_turned_away"]) == ("by a fake", 3)
    chat.outbox.failure = Unavailable("away")
    assert (await http.get("/status")).json()["outbox"] == "away"


class TestContentType:
    @pytest.mark.parametrize(
        "headers", [{}, {"content-type": FORM}, {"content-type": f"{FORM}; x"}]
    )
    async def test_curls_default_is_read_as_json(
        self, http: httpx2.AsyncClient, headers: dict[str, str]
    ) -> None:
        response = await http.post("/chat/", content=json.dumps(body()), headers=headers)
        assert response.status_code == 200

    @pytest.mark.parametrize(
        "headers", [{}, {"content-type": FORM}, {"content-type": "text/plain"}]
    )
    @pytest.mark.parametrize("origin", [PAGE, "http://evil.example", "null"])
    async def test_a_page_must_declare_json(
        self, http: httpx2.AsyncClient, chat: FakeChat, headers: dict[str, str], origin: str
    ) -> None:
        response = await http.post(
            "/chat/", content=json.dumps(body()), headers={**headers, "origin": origin}
        )
        assert 400 <= response.status_code < 500
        assert chat.outbox.accepted == []


class TestCors:
    @pytest.mark.parametrize(("origin", "allowed"), [(PAGE, PAGE), ("http://evil.example", None)])
    async def test_only_listed_origins_may_ask(
        self, http: httpx2.AsyncClient, origin: str, allowed: str | None
    ) -> None:
        preflight = await http.options(
            "/chat/",
            headers={
                "origin": origin,
                "access-control-request-method": "POST",
                "access-control-request-headers": "content-type",
            },
        )
        assert preflight.headers.get("access-control-allow-origin") == allowed
        response = await http.post("/chat/", json=body(), headers={"origin": origin})
        assert response.headers.get("access-control-allow-origin") == allowed


async def assert_refused(
    response: httpx2.Response, chat: FakeChat, field: str, statuses: tuple[int, ...]
) -> None:
    assert response.status_code in statuses, response.text
    assert field in json.dumps(response.json()["detail"])
    assert (chat.outbox.accepted, chat.agent.counts) == ([], [])


async def test_blank_text_is_refused_in_these_words(
    http: httpx2.AsyncClient, chat: FakeChat
) -> None:
    for text in ("", "  \n"):
        response = await http.post("/chat/", json=body(text=text))
        assert response.status_code == 400
        assert response.json() == {"detail": "Message text cannot be empty"}
    assert chat.outbox.accepted == []


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        *(({"user_id": user_id}, "user_id") for user_id in BAD_USER_IDS.values()),
        ({"user_id": 5}, "user_id"),
        ({"user_id": None}, "user_id"),
        ({"user_id": ["alice"]}, "user_id"),
        ({"text": "x" * 101}, "text"),
        ({"text": 5}, "text"),
        ({"text": None}, "text"),
        ({"metadata": "x"}, "metadata"),
        ({"metadata": {"session_id": "x"}}, "session_id"),
        ({"metadata": {"session_id": "../../etc"}}, "session_id"),
        ({"metadata": {"session_id": 5}}, "session_id"),
        ({"metadata": {"timestamp": "yesterday"}}, "timestamp"),
        ({"metadata": {"timestamp": 1767225600}}, "timestamp"),
        ({"metadata": {"timestamp": True}}, "timestamp"),
        ({"message_id": "x"}, "message_id"),
        ({"tags": "x"}, "tags"),
        ({"tags": ["x"] * 21}, "tags"),
        ({"tags": ["x" * 65]}, "tags"),
        ({"tags": [5]}, "tags"),
    ],
)
async def test_bad_input_is_refused_by_field_and_not_counted(
    http: httpx2.AsyncClient, chat: FakeChat, fields: dict[str, Any], field: str
) -> None:
    response = await http.post("/chat/", json=body(**fields))
    await assert_refused(response, chat, field, (400, 422))


@pytest.mark.parametrize("missing", ["user_id", "text"])
async def test_a_missing_field_is_named(
    http: httpx2.AsyncClient, chat: FakeChat, missing: str
) -> None:
    given = {name: value for name, value in body().items() if name != missing}
    await assert_refused(await http.post("/chat/", json=given), chat, missing, (422,))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("user_id", "a\ud800b"),
        ("text", "a\ud800b"),
        ("tags", ["a\ud800b"]),
        ("message_id", "\ud800"),
        ("metadata", {"session_id": "\ud800"}),
        ("metadata", {"timestamp": "\ud800"}),
    ],
)
async def test_a_lone_surrogate_is_refused(
    http: httpx2.AsyncClient, chat: FakeChat, field: str, value: Any
) -> None:
    response = await http.post("/chat/", content=json.dumps(body(**{field: value})))
    await assert_refused(response, chat, field, (400, 422))


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"hello",
        b"[]",
        b'"alice"',
        b"null",
        b"user_id=alice&text=hi",
        b'{"user_id": "alice", "text": "\xff\xfe"}',
        b'{"user_id": "alice", "text": NaN}',
        b"[" * 100_000,
        b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
        b'{"user_id": "alice", "text": "hi", "tags": ' + b"[" * 50_000 + b"]" * 50_000 + b"}",
        b'{"user_id": "alice", "text": ' + b"9" * 5_000 + b"}",
    ],
    ids=lambda content: content[:40].decode(errors="replace"),
)
async def test_a_body_that_is_no_chat_message_is_the_callers_fault(
    http: httpx2.AsyncClient, chat: FakeChat, content: bytes
) -> None:
    response = await http.post("/chat/", content=content)
    await assert_refused(response, chat, "", (400, 413, 422))


@pytest.mark.parametrize("chunked", [True, False])
async def test_a_body_over_a_megabyte_is_refused(
    http: httpx2.AsyncClient, chat: FakeChat, chunked: bool
) -> None:
    content = json.dumps(body(padding="x" * 1_000_000)).encode()

    async def chunks() -> AsyncIterator[bytes]:
        for at in range(0, len(content), 10_000):
            yield content[at : at + 10_000]

    response = await http.post("/chat/", content=chunks() if chunked else content)
    assert (response.status_code, response.json()) == (413, {"detail": "Content Too Large"})
    assert (chat.outbox.accepted, chat.agent.counts) == ([], [])


@pytest.mark.parametrize("user_id", BAD_USER_IDS.values(), ids=BAD_USER_IDS)
@pytest.mark.parametrize("path", ["/users/{}", "/users/{}/analytics"])
async def test_a_bad_user_id_in_the_path_is_refused_by_name(
    http: httpx2.AsyncClient, chat: FakeChat, path: str, user_id: str
) -> None:
    response = await http.get(path.format(quote(user_id, safe="")))
    await assert_refused(response, chat, "user_id", (400, 422))
    assert chat.analytics.timeouts_s == []


@pytest.mark.parametrize("role", ["", "x" * 65])
async def test_a_bad_role_is_refused_by_name(
    http: httpx2.AsyncClient, chat: FakeChat, role: str
) -> None:
    response = await http.get("/users/alice", params={"role": role})
    await assert_refused(response, chat, "role", (422,))


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
    assert (response.status_code, response.json()) == (status, {"detail": failure.message})
    assert len(chat.outbox.accepted) == 1


@pytest.mark.parametrize("part", ["agent", "outbox"])
async def test_the_unexpected_is_500_and_leaks_nothing(
    http: httpx2.AsyncClient, chat: FakeChat, part: str
) -> None:
    getattr(chat, part).failure = RuntimeError("pa55word")
    response = await http.post("/chat/", json=body())
    assert (response.status_code, response.json()) == (500, {"detail": INTERNAL_MESSAGE})


async def test_a_refusal_is_short_however_much_is_wrong(http: httpx2.AsyncClient) -> None:
    response = await http.post("/chat/", json=body(tags=[5] * 200_000))
    assert response.status_code == 422
    assert len(response.content) < 10_000


async def test_a_refusal_does_not_repeat_what_was_sent(http: httpx2.AsyncClient) -> None:
    response = await http.post("/chat/", json=body(user_id="pa55/word", message_id="pa55word"))
    assert response.status_code == 422
    assert "pa55" not in response.text


async def test_a_users_activity(http: httpx2.AsyncClient) -> None:
    response = await http.get("/users/alice/activity")
    assert response.json() == {
        "days": [
            {"date": "2026-01-01", "message_count": 0},
            {"date": "2026-01-02", "message_count": 5},
        ]
    }
    unknown = await http.get("/users/nobody/activity")
    assert (unknown.status_code, unknown.json()) == (404, {"detail": "User not found"})
