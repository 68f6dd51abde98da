"""What pages of other origins may do (CORS)."""

import json
from typing import Any

import pytest

from chat_service.access.trusted_hosts import TrustedHosts
from tests.fakes import FakeChat
from tests.http.gateways import body, gateway
from tests.tokens import secret_identity

LISTED, OTHER = "http://localhost:3000", "http://evil.example"


@pytest.mark.parametrize("method", ["OPTIONS", "GET"])
async def test_a_listed_origin_may_send_credentials(method: str) -> None:
    async with gateway(FakeChat(), cors_origins=[LISTED]) as http:
        headers = {"origin": LISTED, "access-control-request-method": "POST"}
        answer = await http.request(method, "/", headers=headers)
    assert answer.headers["access-control-allow-origin"] == LISTED
    assert answer.headers["access-control-allow-credentials"] == "true"


@pytest.mark.parametrize("method", ["OPTIONS", "GET"])
async def test_another_origin_may_not(method: str) -> None:
    async with gateway(FakeChat(), cors_origins=[LISTED]) as http:
        headers = {"origin": OTHER, "access-control-request-method": "POST"}
        answer = await http.request(method, "/", headers=headers)
    assert "access-control-allow-origin" not in answer.headers


@pytest.mark.parametrize("method", ["OPTIONS", "GET"])
async def test_where_every_origin_is_listed_none_may_send_credentials(method: str) -> None:
    async with gateway(FakeChat(), cors_origins=["*"]) as http:
        headers = {"origin": OTHER, "cookie": "a=b", "access-control-request-method": "POST"}
        answer = await http.request(method, "/", headers=headers)
    assert answer.headers["access-control-allow-origin"] == "*"
    assert "access-control-allow-credentials" not in answer.headers


_ROUTES = ["/users/alice/analytics?default=0", "/conversations?user_id=alice&filter=pin"]


@pytest.mark.parametrize("url", _ROUTES)
@pytest.mark.parametrize("site", ["cross-site", "same-site"])
@pytest.mark.parametrize("origin", [{"origin": OTHER}, {"origin": "null"}, {}])
async def test_another_page_can_neither_time_a_users_data_nor_see_its_status(
    url: str, site: str, origin: dict[str, str]
) -> None:
    async with gateway(FakeChat(), cors_origins=[LISTED]) as http:
        answer = await http.get(url, headers={"sec-fetch-site": site, **origin})
    assert (answer.status_code, answer.json()["code"]) == (403, "FOREIGN_ORIGIN")


@pytest.mark.parametrize("url", _ROUTES)
@pytest.mark.parametrize(
    ("listed", "headers"),
    [
        (LISTED, {"sec-fetch-site": "same-site", "origin": LISTED}),
        ("*", {"sec-fetch-site": "cross-site", "origin": OTHER}),
        (LISTED, {"sec-fetch-site": "same-origin"}),
        (LISTED, {"sec-fetch-site": "none"}),  # typed into the address bar
        (LISTED, {"origin": OTHER}),  # no browser of today
    ],
)
async def test_a_listed_page_our_own_and_a_persons_own_request_are_answered(
    url: str, listed: str, headers: dict[str, str]
) -> None:
    async with gateway(FakeChat(), cors_origins=[listed]) as http:
        answer = await http.get(url, headers=headers)
    assert answer.status_code == 200


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
async def test_a_link_on_another_page_opens_the_chat_page(site: str) -> None:
    async with gateway(FakeChat()) as http:
        assert (await http.get("/ui/", headers={"sec-fetch-site": site})).status_code == 200


@pytest.mark.parametrize("status", [200, 400, 401, 404, 422, 500, 503])
async def test_a_listed_origin_may_read_any_answer(status: int) -> None:
    chat = FakeChat()
    chat.agent.failure = RuntimeError("unexpected") if status == 500 else None
    if status == 503:
        chat.admission.chats = 2000
    options: dict[str, Any] = {"identity": secret_identity()} if status == 401 else {}
    if status == 400:
        options["hosts"] = TrustedHosts("127.0.0.1")
    content = b"{" if status == 422 else json.dumps(body()).encode()
    headers = {"origin": LISTED, "content-type": "application/json"}
    async with gateway(chat, cors_origins=[LISTED], **options) as http:
        url = "/nowhere" if status == 404 else "/chat/"
        answer = await http.post(url, content=content, headers=headers)
    assert answer.status_code == status
    assert answer.headers["access-control-allow-origin"] == LISTED
    assert answer.headers["vary"] == "Origin"
