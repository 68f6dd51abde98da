"""Invalid input and its error messages. None of it is answered, kept or counted."""

import json
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import quote

import httpx2
import pytest

from tests.fakes import BAD_USER_IDS, FakeChat
from tests.http.gateways import body


async def assert_refused(
    response: httpx2.Response, chat: FakeChat, field: str, statuses: tuple[int, ...]
) -> None:
    assert response.status_code in statuses, response.text
    assert field in json.dumps(response.json()["detail"])
    assert (chat.turns.kept, chat.agent.counts) == ([], [])


async def test_blank_text_is_refused_in_these_words(
    http: httpx2.AsyncClient, chat: FakeChat
) -> None:
    for text in ("", "  \n"):
        response = await http.post("/chat/", json=body(text=text))
        assert response.status_code == 400
        assert response.json()["detail"] == "Message text cannot be empty"
    assert chat.turns.kept == []


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
        ({"regenerate": 0}, "regenerate"),
        ({"regenerate": "yes"}, "regenerate"),
        ({"regenerate": None}, "regenerate"),
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


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/users/alice?role=admin&role=guest", "role"),
        ("/users/alice/analytics?default=x&default=1", "default"),
        ("/conversations?user_id=alice&user_id=bob", "user_id"),
        ("/users/alice?r%C3%B6le=1&other=2&r%C3%B6le=3", "röle"),
    ],
)
async def test_a_query_parameter_may_be_given_once(
    http: httpx2.AsyncClient, path: str, name: str
) -> None:
    response = await http.get(path)
    told = (response.status_code, response.json()["detail"], response.json()["code"])
    assert told == (400, f"{name}: is given more than once", "INVALID_FIELD")


@pytest.mark.parametrize("path", ["/chat/", "/chat/stream", "/v1/chat/completions"])
async def test_an_idempotency_key_may_be_given_once(
    http: httpx2.AsyncClient, chat: FakeChat, path: str
) -> None:
    said = body() | {"messages": [{"role": "user", "content": "Hi"}], "user": "alice"}
    keys = [("Idempotency-Key", "one"), ("idempotency-key", "two")]
    response = await http.post(path, json=said, headers=keys)
    told = (response.status_code, response.json()["detail"], chat.agent.messages)
    assert told == (400, "idempotency-key: is given more than once", [])


async def test_a_stream_is_refused_in_the_same_words(http: httpx2.AsyncClient) -> None:
    bad = {"user_id": 5, "tags": 5}
    whole, stream = [await http.post(path, json=bad) for path in ("/chat/", "/chat/stream")]
    assert (stream.status_code, stream.json()) == (whole.status_code, whole.json())


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
    told = response.json()["detail"]
    assert (response.status_code, told) == (
        413,
        "The body is too large; a chat's may have 1,000,000 bytes, a title's 10,000",
    )
    assert (chat.turns.kept, chat.agent.counts) == ([], [])


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


async def test_a_fault_is_reported_once(http: httpx2.AsyncClient) -> None:
    refused = await http.post("/chat/stream?rich=maybe", json=body())
    assert [fault["loc"] for fault in refused.json()["detail"]] == [["query", "rich"]]


async def test_an_error_is_short_however_many_faults_there_are(http: httpx2.AsyncClient) -> None:
    response = await http.post("/chat/", json=body(tags=[5] * 200_000))
    assert response.status_code == 422
    assert len(response.content) < 10_000


async def test_a_refusal_does_not_repeat_what_was_sent(http: httpx2.AsyncClient) -> None:
    response = await http.post("/chat/", json=body(user_id="pa55/word", message_id="pa55word"))
    assert response.status_code == 422
    assert "pa55" not in response.text
