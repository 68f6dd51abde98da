"""Which pages may call, and which content types a body may have."""

import gzip
import json
from collections.abc import AsyncIterator
from uuid import uuid4

import httpx2
import pytest

from daca_shared.domain import Unavailable
from tests.fakes import FakeChat
from tests.http.gateways import body, gateway

PAGE = "http://localhost:3000"
FORM = "application/x-www-form-urlencoded"


@pytest.fixture
async def http(chat: FakeChat) -> AsyncIterator[httpx2.AsyncClient]:
    async with gateway(chat, cors_origins=[PAGE]) as client:
        yield client


@pytest.mark.parametrize("headers", [{}, {"content-type": FORM}, {"content-type": f"{FORM}; x"}])
async def test_curls_default_is_read_as_json(
    http: httpx2.AsyncClient, headers: dict[str, str]
) -> None:
    response = await http.post("/chat/", content=json.dumps(body()), headers=headers)
    assert response.status_code == 200


@pytest.mark.parametrize("headers", [{}, {"content-type": FORM}, {"content-type": "text/plain"}])
@pytest.mark.parametrize("origin", [PAGE, "http://evil.example", "null"])
async def test_a_page_must_declare_json(
    http: httpx2.AsyncClient, chat: FakeChat, headers: dict[str, str], origin: str
) -> None:
    response = await http.post(
        "/chat/", content=json.dumps(body()), headers={**headers, "origin": origin}
    )
    assert response.status_code == 415
    assert response.json()["code"] == "NOT_JSON"
    assert "must be declared as Content-Type: application/json" in response.json()["detail"]
    assert chat.turns.kept == []


async def test_a_compressed_body_is_told_to_be_one(http: httpx2.AsyncClient) -> None:
    content, headers = gzip.compress(json.dumps(body()).encode()), {"content-encoding": "gzip"}
    response = await http.post("/chat/", content=content, headers=headers)
    assert (response.status_code, response.headers["accept-encoding"]) == (415, "identity")
    assert response.json()["detail"] == "The body must not be compressed"


@pytest.mark.parametrize("coding", ["identity", "Identity", ""])
async def test_a_body_that_is_declared_as_not_compressed_is_read(
    http: httpx2.AsyncClient, coding: str
) -> None:
    response = await http.post("/chat/", json=body(), headers={"content-encoding": coding})
    assert response.status_code == 200


@pytest.mark.parametrize("path", ["/conversations", "/v1/models"])
async def test_a_method_that_a_path_does_not_have_is_refused_first(
    http: httpx2.AsyncClient, path: str
) -> None:
    response = await http.post(path, content="hi", headers={"content-type": "text/plain"})
    assert (response.status_code, response.json()["code"]) == (405, "METHOD_NOT_ALLOWED")


@pytest.mark.parametrize("kind", ["application/json; charset=utf-8", "application/ld+json"])
async def test_json_may_be_declared_in_any_form(http: httpx2.AsyncClient, kind: str) -> None:
    headers = {"content-type": kind, "origin": PAGE}
    response = await http.post("/chat/", content=json.dumps(body()), headers=headers)
    assert response.status_code == 200


async def test_a_body_in_another_encoding_is_told_that_utf_8_is_expected(
    http: httpx2.AsyncClient,
) -> None:
    sent = json.dumps(body(text="Grüße"), ensure_ascii=False).encode("latin-1")
    response = await http.post("/chat/", content=sent)
    assert (response.status_code, response.json()["detail"]) == (
        400,
        "The body can't be read as JSON in UTF-8",
    )
    assert response.json()["code"] == "BAD_REQUEST"


@pytest.mark.parametrize(("origin", "allowed"), [(PAGE, PAGE), ("http://evil.example", None)])
async def test_only_listed_origins_are_allowed(
    http: httpx2.AsyncClient, origin: str, allowed: str | None
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


async def test_a_listed_page_may_read_and_delete(http: httpx2.AsyncClient) -> None:
    for method in ("GET", "DELETE"):
        asked = {"origin": PAGE, "access-control-request-method": method}
        assert (await http.options("/conversations", headers=asked)).status_code == 200
    listed = await http.get("/conversations?user_id=alice", headers={"origin": PAGE})
    assert listed.status_code == 200
    gone = await http.delete(f"/conversations/{uuid4()}?user_id=alice", headers={"origin": PAGE})
    assert gone.json()["code"] == "CONVERSATION_NOT_FOUND"


async def test_a_page_may_read_when_to_come_back_and_which_request_it_was(
    http: httpx2.AsyncClient, chat: FakeChat
) -> None:
    chat.agent.failure = Unavailable("Not now", retry_after_s=5)
    response = await http.post("/chat/", json=body(), headers={"origin": PAGE})
    exposed = response.headers["access-control-expose-headers"].split(", ")
    assert {"retry-after", "x-request-id"} <= {*exposed} & {*response.headers}
