"""What probes and people learn about the service's health."""

from datetime import UTC, datetime

import httpx2
import pytest

from chat_service.outbox.analytics import LastCall
from daca_shared.domain import DomainError, Unavailable
from tests.fakes import FakeChat
from tests.http.gateways import gateway_app, served


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


async def test_readiness_reports_the_backlog(http: httpx2.AsyncClient, chat: FakeChat) -> None:
    for waiting, told in (
        (1, "1 message waits to be counted, for 90 s"),
        (2, "2 messages wait to be counted, the oldest for 90 s"),
        (10_000, "10000 or more messages wait to be counted, the oldest for 90 s"),
    ):
        chat.outbox.waiting = waiting
        response = await http.get("/readyz")
        assert response.json()["outbox"] == told


@pytest.mark.parametrize(
    ("missing", "code"),
    [("stopping", "STOPPING"), ("database", "STORAGE_UNAVAILABLE"), ("is damaged", "NOT_READY")],
)
async def test_a_service_that_is_not_ready_says_what_is_missing(
    http: httpx2.AsyncClient, chat: FakeChat, missing: str, code: str
) -> None:
    chat.stopping = missing == "stopping"
    chat.outbox.failure = Unavailable("away") if missing == "database" else None
    chat.problem = "the database is damaged" if missing == "is damaged" else None
    response = await http.get("/readyz")
    assert (response.status_code, response.json()["code"]) == (503, code)
    assert missing in response.json()["detail"]


async def test_the_status_reports_all_parts(http: httpx2.AsyncClient, chat: FakeChat) -> None:
    chat.analytics.last_call = LastCall(method="M", outcome="OK", time=datetime.now(UTC))
    chat.admission.turned_away = 3
    report = (await http.get("/status")).json()
    assert (report["model"], report["analytics"], report["outbox"]) == ("fake", "ok", "empty")
    assert report["analytics_last_call"]["outcome"] == "OK"
    assert (report["analytics_way"], report["chats_turned_away"]) == ("by a fake", 3)
    chat.outbox.failure = Unavailable("away")
    assert (await http.get("/status")).json()["outbox"] == "away"


async def test_the_status_says_what_is_wrong_with_a_database_without_asking_it_again(
    http: httpx2.AsyncClient, chat: FakeChat
) -> None:
    chat.outbox.failure = Unavailable("asked, which may take seconds")
    chat.problem = "PostgreSQL can't be used: it doesn't answer in time"
    assert (await http.get("/status")).json()["outbox"] == chat.problem


@pytest.mark.parametrize("path", ["/", "/healthz", "/readyz", "/docs", "/openapi.json", "/ui/"])
async def test_get_routes_answer_head(chat: FakeChat, path: str) -> None:
    async with served(gateway_app(chat)) as client:
        head = await client.head(path)
        assert (head.status_code, head.content) == (200, b"")
        assert head.headers["content-type"] == (await client.get(path)).headers["content-type"]
        assert (await client.head("/chat/")).status_code == 405
