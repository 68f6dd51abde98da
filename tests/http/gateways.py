"""The gateway on fakes, in this process."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx2

from chat_service.gateway import build_gateway
from tests.fakes import FakeChat


@asynccontextmanager
async def gateway(chat: FakeChat, **options: Any) -> AsyncIterator[httpx2.AsyncClient]:
    """A client of a gateway that is set up so."""
    app = build_gateway(
        chat.conversation,
        chat.history,
        chat.analytics,
        chat.status,
        **{"cors_origins": [], **options},
    )
    transport = httpx2.ASGITransport(app=app, raise_app_exceptions=False)
    async with httpx2.AsyncClient(transport=transport, base_url="http://test") as client:
        yield client
