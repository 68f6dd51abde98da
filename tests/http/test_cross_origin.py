"""What pages of other origins may do (CORS)."""

import pytest

from tests.fakes import FakeChat
from tests.http.gateways import gateway

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
    assert "access-control-allow-credentials" not in answer.headers
