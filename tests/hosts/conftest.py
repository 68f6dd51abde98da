"""Chats with a model's host that the test scripts."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from agents import ModelSettings
from openai import AsyncOpenAI

from chat_service.agent.agent import ChatAgent
from chat_service.agent.models import ChatModel, ResponsesModel, choose_model, one_retry
from chat_service.chat.messages import ChatMessage, Turn
from chat_service.settings import ChatSettings
from lab.postgres import Place
from tests.chats import StoredChat, chatting
from tests.odd_host import Answer, OddHost, odd_host
from tests.unit.conftest import environment

__all__ = ["environment"]

KEY = "sk-Very-Secret-1234567890"


@dataclass
class Talk:
    """One conversation with a host, either streamed or not."""

    chat: StoredChat
    host: OddHost
    way: str
    session_id: UUID = field(default_factory=uuid4)
    deltas: list[str] = field(default_factory=list)

    async def say(self, text: str = "hello") -> str:
        """The reply. If it is streamed, checks that the deltas add up to it."""
        sent = ChatMessage(user_id="alice", text=text, session_id=self.session_id)
        if self.way == "reply":
            return (await self.chat.conversation.reply(sent)).answer.text
        async with aclosing(self.chat.conversation.stream(sent)) as events:
            *deltas, last = [event async for event in events]
        self.deltas = [delta for delta in deltas if isinstance(delta, str)]
        assert isinstance(last, Turn)
        assert "".join(self.deltas) == last.answer.text
        return last.answer.text

    async def turns(self) -> list[Turn]:
        return await self.chat.history(session_id=self.session_id)


@asynccontextmanager
async def closing(model: ChatModel) -> AsyncIterator[ChatModel]:
    try:
        yield model
    finally:
        await model.close()


@asynccontextmanager
async def openai(url: str, timeout_s: float = 20) -> AsyncIterator[ChatModel]:
    """OpenAI's own API, as `choose_model` sets it up, at another address."""
    client = AsyncOpenAI(api_key=KEY, base_url=url, max_retries=0, timeout=timeout_s)
    settings = ModelSettings(retry=one_retry())
    async with closing(ChatModel("m", ResponsesModel("m", client), settings, client)) as model:
        yield model


WAYS = ["reply", "stream"]

type Talking = Callable[..., AbstractAsyncContextManager[Talk]]


@pytest.fixture(params=WAYS)
def way(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def talking(environment: pytest.MonkeyPatch, tmp_path: Path, way: str) -> Talking:
    @asynccontextmanager
    async def talking(
        *answers: Answer, place: Place = tmp_path / "chat.db", model: str = "m", **limits: Any
    ) -> AsyncIterator[Talk]:
        async with odd_host(*answers) as host:
            environment.setenv("OPENAI_BASE_URL", host.url)
            environment.setenv("OPENAI_API_KEY", KEY)
            environment.setenv("CHAT_MODEL", model)
            chosen = choose_model(ChatSettings.from_environment())
            async with closing(chosen), chatting(place, ChatAgent(chosen, **limits)) as chat:
                yield Talk(chat, host, way)

    return talking
