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
