"""The HTTP server listens on any kind of address that a machine may have."""

import httpx2
import pytest
from limits import parse_many

from chat_service.access.rates import Rates
from chat_service.web.server import HttpServer
from daca_shared.addresses import PortTaken, address
from tests.fakes import FakeChat
from tests.http.gateways import gateway_app

EVERYWHERE = pytest.mark.parametrize(
    ("host", "reached_at"),
    [("127.0.0.1", "127.0.0.1"), ("::1", "::1"), ("::", "::1"), ("::", "127.0.0.1")],
)


@EVERYWHERE
async def test_a_server_answers_at_its_address(host: str, reached_at: str) -> None:
    server = HttpServer(gateway_app(FakeChat()), host, 0)
    await server.start()
    try:
        async with httpx2.AsyncClient() as client:
            answer = await client.get(f"http://{address(reached_at, server.port)}/healthz")
    finally:
        await server.stop(1)
    assert answer.json() == {"status": "ok"}


async def test_a_taken_port_is_named_on_any_address() -> None:
    app = gateway_app(FakeChat())
    first = HttpServer(app, "::1", 0)
    await first.start()
    second = HttpServer(app, "::1", first.port)
    try:
        with pytest.raises(PortTaken, match="CHAT_HTTP_PORT"):
            await second.start()
    finally:
        await first.stop(1)


@EVERYWHERE
async def test_a_proxy_is_trusted_however_its_address_looks_to_the_server(
    host: str, reached_at: str
) -> None:
    app = gateway_app(FakeChat(), rates=Rates(address=parse_many("1/minute")))
    proxies = ["127.0.0.0/8", "::1/128"]
    server = HttpServer(app, host, 0, trusted_proxies=proxies)
    await server.start()
    try:
        async with httpx2.AsyncClient() as client:
            statuses = [
                (
                    await client.post(
                        f"http://{address(reached_at, server.port)}/chat/",
                        json={"user_id": "alice", "text": "hi"},
                        headers={"x-forwarded-for": caller},
                    )
                ).status_code
                for caller in ("192.0.2.1", "192.0.2.2", "192.0.2.1")
            ]
    finally:
        await server.stop(1)
    assert statuses == [200, 200, 429]
