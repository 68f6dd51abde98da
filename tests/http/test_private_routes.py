"""Every route with a user's data refuses all callers but that user."""

from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest

from chat_service.access.identity import SYMMETRIC, Identity
from chat_service.chat.messages import ChatMessage
from chat_service.turns.history import PastConversation
from daca_shared.domain import Unavailable
from tests.fakes import FakeChat, turn_of
from tests.http.gateways import gateway
from tests.http.test_conversations import WHEN
from tests.http.test_own_conversations_routes import SESSION
from tests.tokens import bearer, secret_identity, token

OPEN = {"/", "/healthz", "/readyz", "/status"}
# These take the user only from the token; tests/http/test_openai_clients.py tests them.
OPENAIS = {"/v1/chat/completions", "/v1/models"}


@pytest.fixture
async def http(chat: FakeChat) -> AsyncIterator[httpx2.AsyncClient]:
    async with gateway(
        chat, identity=secret_identity(), cors_origins=["http://page.example"]
    ) as client:
        yield client


async def routes(http: httpx2.AsyncClient) -> dict[tuple[str, str], dict[str, Any]]:
    """Every documented operation."""
    paths = (await http.get("/openapi.json")).json()["paths"]
    return {(method, path): one for path, item in paths.items() for method, one in item.items()}


def call(method: str, path: str, user_id: str) -> dict[str, Any]:
    """A valid request with `user_id` where the route expects it."""
    request: dict[str, Any] = {
        "method": method.upper(),
        "url": path.replace("{user_id}", user_id).replace("{session_id}", str(SESSION)),
    }
    bodies = {"post": {"user_id": user_id, "text": "hi"}, "patch": {"title": "mine"}}
    if method in bodies:
        request["json"] = bodies[method]
    if method != "post" and "{user_id}" not in path:
        request["params"] = {"user_id": user_id}
    return request


async def test_every_other_route_is_private(http: httpx2.AsyncClient, chat: FakeChat) -> None:
    found = await routes(http)
    private = {key: one for key, one in found.items() if key[1] not in OPEN | OPENAIS}
    assert len(private) == len(found) - len(OPEN | OPENAIS) >= 7
    for (method, path), operation in private.items():
        assert operation["security"] == [{"HTTPBearer": []}]
        request = call(method, path, "alice")
        nobody = await http.request(**request)
        assert (nobody.status_code, nobody.headers["www-authenticate"]) == (401, "Bearer"), path
        assert nobody.json()["detail"] == "A bearer token is required"
        forged = await http.request(**request, headers={"authorization": f"Bearer {token()}x"})
        assert (forged.status_code, forged.headers["www-authenticate"]) == (401, "Bearer"), path
        another = await http.request(**request, headers=bearer("bob"))
        assert another.status_code == 403, path
        assert another.json()["detail"] == "The token is not this user's"
        assert another.json()["code"] == "TOKEN_OF_ANOTHER_USER"
        assert (chat.turns.kept, chat.analytics.timeouts_s) == ([], [])
    chat.turns.past_conversations = [PastConversation(1, SESSION, "title", WHEN, 1)]
    for method, path in private:
        request = call(method, path, "alice")
        sent = ChatMessage(user_id="alice", text="hi", session_id=SESSION)
        await chat.turns.keep(turn_of(sent, "hello"))
        answer = await http.request(**request, headers=bearer("alice"))
        assert answer.status_code in (200, 204), path


@pytest.mark.parametrize("path", [*sorted(OPEN), "/docs", "/openapi.json", "/ui/", "/ui/app.js"])
async def test_public_routes_stay_open(http: httpx2.AsyncClient, path: str) -> None:
    assert (await http.get(path)).status_code == 200


@pytest.mark.parametrize(
    ("method", "path", "sent"),
    [
        ("POST", "/chat/", b"{"),
        ("POST", "/chat/stream", b'{"user_id": "alice", "text": ""}'),
        ("POST", "/chat/stream", b'{"user_id": 5, "tags": 5}'),
        ("GET", "/users/a%2Fb/analytics", b""),
        ("GET", "/conversations?page_size=x", b""),
        ("GET", "/conversations/x", b""),
    ],
)
async def test_requests_are_authenticated_before_they_are_validated(
    http: httpx2.AsyncClient, method: str, path: str, sent: bytes
) -> None:
    assert (await http.request(method, path, content=sent)).status_code == 401
    known = await http.request(method, path, content=sent, headers=bearer())
    assert known.status_code in (400, 422)


async def test_a_refusal_does_not_quote_the_token(http: httpx2.AsyncClient) -> None:
    for given in (token("bob"), "pa55word"):
        headers = {"authorization": f"Bearer {given}"}
        answer = await http.get("/users/alice", headers=headers)
        assert answer.status_code in (401, 403)
        assert given not in answer.text
        assert "bob" not in answer.text


async def test_unavailable_keys_are_a_503_with_retry_after(
    chat: FakeChat,
) -> None:
    async def away(kid: str | None, algorithm: str, *, refresh: bool) -> list[str]:
        raise Unavailable("away", retry_after_s=10)

    async with gateway(chat, identity=Identity(away, SYMMETRIC)) as http:
        answer = await http.get("/users/alice", headers=bearer())
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "10")


async def test_a_listed_origin_may_send_a_token(http: httpx2.AsyncClient) -> None:
    origin = {"origin": "http://page.example"}
    asked = {
        "access-control-request-method": "POST",
        "access-control-request-headers": "authorization,content-type",
    }
    preflight = await http.options("/chat/", headers={**origin, **asked})
    assert preflight.status_code == 200
    assert "authorization" in preflight.headers["access-control-allow-headers"]
    refused = await http.post("/chat/", headers=origin)
    assert refused.status_code == 401
    assert refused.headers["access-control-allow-origin"] == origin["origin"]


async def test_without_identity_no_token_is_required(chat: FakeChat) -> None:
    async with gateway(chat) as http:
        assert (await http.get("/users/alice")).status_code == 200
        assert "components" in (schema := (await http.get("/openapi.json")).json())
        assert "securitySchemes" not in schema["components"]


async def test_a_request_with_two_tokens_is_refused(http: httpx2.AsyncClient) -> None:
    for other in (bearer()["authorization"], "", "Basic x"):
        both = [("authorization", bearer()["authorization"]), ("authorization", other)]
        for headers in (both, both[::-1]):
            answer = await http.get("/users/alice", headers=headers)
            assert answer.status_code == 401
