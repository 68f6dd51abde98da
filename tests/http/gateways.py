"""The gateway on fakes, in this process or behind a real socket."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx2
import uvicorn
from fastapi import FastAPI

from chat_service.web.gateway import build_gateway
from chat_service.web.http_protocol import Gateway
from tests.fakes import FakeChat


def gateway_app(chat: FakeChat, **options: Any) -> FastAPI:
    """A gateway that is set up so."""
    return build_gateway(
        chat.conversation,
        chat.history,
        chat.settled,
        chat.status,
        **{"cors_origins": [], **options},
    )


@asynccontextmanager
async def gateway(chat: FakeChat, **options: Any) -> AsyncIterator[httpx2.AsyncClient]:
    """A client of a gateway that is set up so."""
    transport = httpx2.ASGITransport(app=gateway_app(chat, **options), raise_app_exceptions=False)
    async with httpx2.AsyncClient(transport=transport, base_url="http://test") as client:
        yield client


@asynccontextmanager
async def served(app: Any, **options: Any) -> AsyncIterator[httpx2.AsyncClient]:
    """A client of a real server, which notices a reader who leaves; `options` are uvicorn's."""
    server = Gateway(uvicorn.Config(app, log_config=None, **options))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        async with httpx2.AsyncClient(base_url=url) as client:
            yield client
        server.should_exit = True
        await serving
