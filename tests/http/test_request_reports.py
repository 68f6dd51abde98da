"""One log line, one measurement and one id per HTTP request."""

import asyncio
import json
import re
from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest

from daca_shared.domain import Unavailable
from daca_shared.observe.logs import hash_user_id
from tests.fakes import FOREVER_S, FakeChat, eventually
from tests.http.gateways import gateway_app, served
from tests.reports import Report, reported, sample

LOGGER = "chat_service.web.edge"
BODY = {"user_id": "alice", "text": "my secret diary"}


@pytest.fixture
async def http(chat: FakeChat) -> AsyncIterator[httpx2.AsyncClient]:
    """A client of a real server, which notices when a reader disconnects."""
    async with served(gateway_app(chat)) as client:
        yield client


def measured(method: str, route: str, status: int, error: str = "") -> float:
    return sample(
        "http_server_request_duration_seconds_count",
        http_request_method=method,
        http_route=route,
        http_response_status_code=str(status),
        error_type=error,
    )


def requests(report: Report) -> list[dict[str, Any]]:
    return [line for line in report.of(LOGGER) if line["event"] == "request"]


async def the_line(report: Report) -> dict[str, Any]:
    """A request's only log line, which may come a moment after the answer."""
    await eventually(lambda: requests(report))
    (line,) = requests(report)
    return line


async def test_a_chat_is_one_line_without_its_text_or_its_users_name(
    http: httpx2.AsyncClient,
) -> None:
    before = measured("POST", "/chat/", 200)
    with reported() as report:
        response = await http.post("/chat/", json=BODY, headers={"x-request-id": "my-id"})
        line = await the_line(report)
    assert response.headers["x-request-id"] == "my-id"
    assert 0 < line.pop("duration_ms") < 5000
    assert line.pop("timestamp")
    assert line == {
        "level": "info",
        "logger": LOGGER,
        "event": "request",
        "method": "POST",
        "route": "/chat/",
        "status": 200,
        "request_id": "my-id",
        "user": hash_user_id("alice"),
    }
    assert "diary" not in report.text
    assert "alice" not in report.text
    assert measured("POST", "/chat/", 200) == before + 1


@pytest.mark.parametrize(
    ("path", "body", "reason"),
    [
        ("/chat/", BODY, "STORAGE_UNAVAILABLE"),
        ("/chat/stream", BODY, "STORAGE_UNAVAILABLE"),
        ("/chat/", BODY | {"text": " "}, "INVALID_FIELD"),
        ("/nowhere", BODY, "NO_SUCH_ROUTE"),
    ],
)
async def test_the_line_of_a_failure_has_the_code_that_its_caller_was_told(
    http: httpx2.AsyncClient, chat: FakeChat, path: str, body: dict[str, str], reason: str
) -> None:
    chat.turns.failure = Unavailable("away", code="STORAGE_UNAVAILABLE")
    with reported() as report:
        answer = await http.post(path, json=body)
        line = await the_line(report)
    assert reason in answer.text
    assert line["reason"] == reason


@pytest.mark.parametrize("shown", [b"", b"two words", "ümlaut".encode(), b"x" * 129])
async def test_an_invalid_request_id_is_replaced(http: httpx2.AsyncClient, shown: bytes) -> None:
    response = await http.get("/", headers={b"x-request-id": shown})
    assert re.fullmatch("[0-9a-f]{32}", response.headers["x-request-id"])


async def test_two_request_ids_count_as_none(http: httpx2.AsyncClient) -> None:
    response = await http.get("/", headers=[("x-request-id", "a"), ("x-request-id", "b")])
    assert re.fullmatch("[0-9a-f]{32}", response.headers["x-request-id"])


@pytest.mark.parametrize(
    ("method", "path", "route", "status"),
    [
        ("GET", "/users/mallory%0Aforged/analytics", "/users/{user_id}/analytics", 422),
        ("GET", "/users/nobody/analytics", "/users/{user_id}/analytics", 404),
        ("GET", "/no/such/page", "", 404),
        ("GET", "/ui/nothing", "/ui", 404),
        ("POST", "/chat/", "/chat/", 422),
        ("DELETE", "/chat/", "/chat/", 405),
    ],
)
async def test_a_line_has_the_routes_template_and_never_the_path(
    http: httpx2.AsyncClient, method: str, path: str, route: str, status: int
) -> None:
    with reported() as report:
        response = await http.request(method, path)
        line = await the_line(report)
    assert (response.status_code, line["status"], line["route"]) == (status, status, route)
    assert line["request_id"] == response.headers["x-request-id"]
    assert path == route or path not in report.text


async def test_probes_are_logged_at_debug_level(http: httpx2.AsyncClient) -> None:
    with reported("INFO") as report:
        await http.get("/healthz")
        await http.get("/readyz")
        await http.get("/")
        assert (await the_line(report))["route"] == "/"
    with reported("DEBUG") as report:
        await http.get("/healthz")
        assert (await the_line(report))["level"] == "debug"


async def test_an_unexpected_failure_and_its_cause_are_logged_with_the_same_id(
    http: httpx2.AsyncClient, chat: FakeChat
) -> None:
    chat.agent.failure = RuntimeError("the cause")
    with reported() as report:
        response = await http.post("/chat/", json=BODY)
        await eventually(lambda: "the cause" in report.text)
        line = await the_line(report)
    (cause,) = [line for line in report.lines if line["level"] == "error"]
    assert (response.status_code, line["status"]) == (500, 500)
    assert line["request_id"] == cause["request_id"] == response.headers["x-request-id"]


async def test_a_stream_is_one_line_when_it_ends(http: httpx2.AsyncClient, chat: FakeChat) -> None:
    chat.agent.delay_s = 0.2
    with reported() as report:
        async with http.stream("POST", "/chat/stream", json=BODY) as response:
            assert requests(report) == []
            async for _ in response.aiter_bytes():
                pass
        line = await the_line(report)
    assert (line["route"], line["status"]) == ("/chat/stream", 200)
    assert line["duration_ms"] >= 200
    assert line["user"] == hash_user_id("alice")
    assert "error" not in line


async def test_a_stream_that_breaks_off_says_so_though_its_status_was_200(
    http: httpx2.AsyncClient, chat: FakeChat
) -> None:
    chat.agent.failure = Unavailable("away")
    before = measured("POST", "/chat/stream", 200, "503")
    with reported() as report:
        await http.post("/chat/stream", json=BODY)
        line = await the_line(report)
    assert (line["status"], line["error"]) == (200, "503")
    assert measured("POST", "/chat/stream", 200, "503") == before + 1


async def test_a_client_that_leaves_when_it_is_told_of_a_failure_is_not_its_cause(
    chat: FakeChat,
) -> None:
    chat.agent.failure = Unavailable("away")
    told = asyncio.Event()
    sent = [{"type": "http.request", "body": json.dumps(BODY).encode()}]

    async def receive() -> Any:
        if sent:
            return sent.pop()
        await told.wait()
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        if b"event: error" in message.get("body", b""):
            told.set()
            await asyncio.sleep(0.1)

    headers = [(b"host", b"localhost"), (b"content-type", b"application/json")]
    scope: Any = {"type": "http", "http_version": "1.1", "method": "POST", "scheme": "http"}
    scope |= {"path": "/chat/stream", "query_string": b"", "headers": headers}
    with reported() as report:
        await gateway_app(chat)(scope, receive, send)
        assert (await the_line(report))["error"] == "503"


@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_a_file_that_is_sent_whole_is_no_failure(
    http: httpx2.AsyncClient, method: str
) -> None:
    before = measured(method, "/ui", 200)
    with reported() as report:
        assert (await http.request(method, "/ui/app.js")).status_code == 200
        assert "error" not in await the_line(report)
    assert measured(method, "/ui", 200) == before + 1


async def test_a_disconnect_is_logged_as_such(http: httpx2.AsyncClient, chat: FakeChat) -> None:
    chat.agent.delay_s = FOREVER_S
    before = measured("POST", "/chat/stream", 200, "cancelled")
    with reported() as report:
        async with http.stream("POST", "/chat/stream", json=BODY) as response:
            await anext(response.aiter_lines())
        line = await the_line(report)
    assert (line["status"], line["error"]) == (200, "cancelled")
    assert measured("POST", "/chat/stream", 200, "cancelled") == before + 1


async def test_a_client_that_leaves_before_its_answer_stops_the_agent(
    http: httpx2.AsyncClient, chat: FakeChat
) -> None:
    chat.agent.delay_s = FOREVER_S
    before = measured("POST", "/chat/", 499, "cancelled")
    with reported() as report:
        with pytest.raises(httpx2.ReadTimeout):
            await http.post("/chat/", json=BODY, timeout=0.2)
        line = await the_line(report)
    assert (line["status"], line["error"]) == (499, "cancelled")
    assert measured("POST", "/chat/", 499, "cancelled") == before + 1
    assert chat.turns.kept == []
    assert [one["event"] for one in report.lines if one["level"] == "error"] == []


async def test_requests_at_once_keep_their_ids_and_users(http: httpx2.AsyncClient) -> None:
    users = [f"user-{n}" for n in range(20)]
    with reported(show_user_ids=True) as report:
        answers = await asyncio.gather(
            *(
                http.post(
                    "/chat/stream",
                    json={"user_id": user, "text": "hi"},
                    headers={"x-request-id": f"id-of-{user}"},
                )
                for user in users
            )
        )
        await eventually(lambda: len(requests(report)) == len(users))
    assert [a.headers["x-request-id"] for a in answers] == [f"id-of-{user}" for user in users]
    assert {(line["request_id"], line["user"]) for line in requests(report)} == {
        (f"id-of-{user}", user) for user in users
    }
