"""Every error has the members of RFC 9457, a stable code, and `detail` as before."""

from http import HTTPStatus
from typing import Any
from uuid import UUID

import httpx2
import pytest
from limits import parse_many

from chat_service.access.rates import Rates
from chat_service.access.trusted_hosts import TrustedHosts
from daca_shared.domain import Failed, LimitReached, TimedOut, Unavailable
from tests.fakes import FakeChat
from tests.http.gateways import body, gateway

UNKNOWN = body(regenerate=True, message_id=str(UUID(int=7)))
NOWHERE = f"/conversations/{UUID(int=7)}?user_id=alice"


def told(answer: httpx2.Response) -> tuple[int, str]:
    """The status and the code of a problem, whose other members are checked here."""
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    if wait := answer.headers.get("retry-after"):
        assert problem.pop("retry_after") == int(wait)
    assert problem.keys() == {"detail", "code", "type", "title", "status"}
    assert problem["detail"]
    assert (problem["type"], problem["status"]) == ("about:blank", answer.status_code)
    assert problem["title"] == HTTPStatus(answer.status_code).phrase
    return answer.status_code, problem["code"]


@pytest.mark.parametrize(
    ("method", "path", "sent", "answer"),
    [
        ("POST", "/chat/", body(text=" "), (400, "INVALID_FIELD")),
        ("POST", "/chat/", body(text=5), (422, "INVALID_FIELD")),
        ("POST", "/chat/", body(regenerate=True), (400, "INVALID_FIELD")),
        ("POST", "/chat/", UNKNOWN, (404, "MESSAGE_NOT_FOUND")),
        ("POST", "/chat/stream", body(text="x" * 101), (400, "INVALID_FIELD")),
        ("POST", "/chat/", body(text="x" * 1_000_000), (413, "BODY_TOO_LARGE")),
        ("PATCH", NOWHERE, {"title": "x" * 1_000_000}, (413, "BODY_TOO_LARGE")),
        ("GET", "/users/nobody/analytics", None, (404, "USER_NOT_FOUND")),
        ("GET", "/nowhere", None, (404, "NO_SUCH_ROUTE")),
        ("PUT", "/chat/", None, (405, "METHOD_NOT_ALLOWED")),
        ("GET", "/conversations?user_id=alice&page_token=x", None, (400, "INVALID_FIELD")),
        ("DELETE", NOWHERE, None, (404, "CONVERSATION_NOT_FOUND")),
    ],
)
async def test_a_refusal_is_a_problem(
    http: httpx2.AsyncClient, method: str, path: str, sent: Any, answer: tuple[int, str]
) -> None:
    assert told(await http.request(method, path, json=sent)) == answer


@pytest.mark.parametrize(
    ("failure", "status", "code"),
    [
        (LimitReached("full", code="MODEL_LIMIT_REACHED"), 429, "MODEL_LIMIT_REACHED"),
        (TimedOut("slow"), 504, "TIMED_OUT"),
        (Unavailable("away"), 503, "UNAVAILABLE"),
        (Unavailable("away", code="MODEL_UNAVAILABLE"), 503, "MODEL_UNAVAILABLE"),
        (Failed("lost"), 500, "FAILED"),
        (RuntimeError("a secret"), 500, "INTERNAL"),
    ],
)
async def test_a_failure_is_a_problem(
    http: httpx2.AsyncClient, chat: FakeChat, failure: Exception, status: int, code: str
) -> None:
    chat.agent.failure = failure
    assert told(await http.post("/chat/", json=body())) == (status, code)


async def test_errors_before_the_routes_are_problems(chat: FakeChat) -> None:
    async with gateway(chat, hosts=TrustedHosts("127.0.0.1")) as http:
        foreign = await http.get("/", headers={"host": "evil.example"})
        assert told(foreign) == (400, "HOST_NOT_TRUSTED")
    async with gateway(chat, rates=Rates(parse_many("1/day"))) as http:
        await http.post("/chat/", json=body())
        assert told(await http.post("/chat/", json=body())) == (429, "RATE_LIMIT")
    chat.admission.chats = 10_000
    async with gateway(chat) as http:
        assert told(await http.post("/chat/", json=body())) == (503, "OVERLOADED")
