"""The gateway with fakes, called in this process or through a real socket."""

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx2
from starlette.types import ASGIApp

from chat_service.web.edge import Edge
from chat_service.web.gateway import build_gateway
from chat_service.web.server import HttpServer
from tests.fakes import ANY_HOST, FREE, FakeChat

# Reading all certificate authorities takes most of the time of making a client.
NO_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


def gateway_app(chat: FakeChat, **options: Any) -> Edge:
    """A gateway with these options."""
    return build_gateway(
        chat.conversation,
        chat.turns,
        chat.analytics,
        chat.status,
        chat.admission,
        outbox=chat.outbox,
        **{"cors_origins": [], "hosts": ANY_HOST, **FREE, **options},
    )


def body(**fields: Any) -> dict[str, Any]:
    """The body of a chat, for `json=`."""
    return {"user_id": "alice", "text": "hi", **fields}


@asynccontextmanager
async def gateway(chat: FakeChat, **options: Any) -> AsyncIterator[httpx2.AsyncClient]:
    """A client of a gateway with these options."""
    transport = httpx2.ASGITransport(app=gateway_app(chat, **options), raise_app_exceptions=False)
    async with httpx2.AsyncClient(transport=transport, base_url="http://test") as client:
        yield client


@asynccontextmanager
async def served(app: ASGIApp, *trusted_proxies: str) -> AsyncIterator[httpx2.AsyncClient]:
    """A client of a real server, which notices when a reader disconnects."""
    server = HttpServer(app, "127.0.0.1", 0, trusted_proxies=[*trusted_proxies])
    await server.start()
    try:
        url = f"http://127.0.0.1:{server.port}"
        async with httpx2.AsyncClient(base_url=url, verify=NO_TLS) as client:
            yield client
    finally:
        await server.stop(1)
