"""A gateway in this process with real stores, whose agent is scripted by the test."""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from starlette.types import ASGIApp, Receive, Scope, Send

from chat_service.web.gateway import build_gateway
from tests.chats import StoredChat, chatting
from tests.fakes import ANY_HOST, FREE, FakeChat
from tests.fault_table import FULL
from tests.http.gateways import served
from tests.scripted import ScriptedAgent

PREFIX = "/daca"
# By chance, requests reach the app up to so late: it shows which tests wait for too little.
_LATE_S = 0.2 if FULL else 0.0


@dataclass
class Site:
    url: str
    """Its URL behind a proxy, which adds a path prefix."""
    agent: ScriptedAgent
    chat: StoredChat

    @property
    def under_way(self) -> int:
        """How many messages are being answered as streams."""
        return len(self.chat.conversation.streams)


def behind_a_proxy(app: ASGIApp) -> ASGIApp:
    """Serve it as a proxy does that adds the prefix `/daca/` and doesn't tell the app."""

    async def proxy(scope: Scope, receive: Receive, send: Send) -> None:
        assert scope["path"].startswith(f"{PREFIX}/"), f"{scope['path']} leads out of the service"
        path = scope["path"].removeprefix(PREFIX)
        if _LATE_S:
            await asyncio.sleep(random.uniform(0, _LATE_S))  # noqa: S311 - it is no secret
        await app({**scope, "path": path, "raw_path": path.encode()}, receive, send)

    return proxy


@asynccontextmanager
async def running_site(place: Path, **options: Any) -> AsyncIterator[Site]:
    agent, fakes = ScriptedAgent("Fine."), FakeChat()
    async with chatting(place, agent) as chat:
        chat.conversation.max_text_length, chat.conversation.timeout_s = 8000, 60
        app = build_gateway(
            chat.conversation, chat.stores.turns, chat.analytics, fakes.status, fakes.admission,
            outbox=chat.stores.outbox, **{"cors_origins": [], "hosts": ANY_HOST, **FREE, **options},
        )  # fmt: skip
        async with served(behind_a_proxy(app)) as http:
            yield Site(str(http.base_url.join(f"{PREFIX}/")), agent, chat)
