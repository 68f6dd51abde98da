import asyncio
import random
from collections.abc import AsyncIterator
from typing import Any

from agents import ModelResponse, ModelSettings, Usage
from agents.items import TResponseStreamEvent
from agents.models.interface import Model
from agents.testing import assistant_message

from chat_service.agent.agent import ChatAgent
from chat_service.agent.models import ChatModel
from chat_service.chat.messages import ChatMessage

USERS = 300


class EchoModel(Model):
    """Replies, after a while, with what it was told about the user and what the user said."""

    async def get_response(
        self,
        system_instructions: str | None,
        input: Any,  # noqa: A002 - the SDK passes it by this name
        *args: Any,
        **kwargs: Any,
    ) -> ModelResponse:
        await asyncio.sleep(random.uniform(0, 0.2))  # noqa: S311
        reply = f"{system_instructions} {input}"
        return ModelResponse([assistant_message(reply)], Usage(), None)

    def stream_response(self, *args: Any, **kwargs: Any) -> AsyncIterator[TResponseStreamEvent]:
        raise NotImplementedError


async def test_300_chats_at_once_see_their_own_user_only() -> None:
    agent = ChatAgent(ChatModel("echo", EchoModel(), ModelSettings()))
    users = [f"user-{n:03}-" for n in range(USERS)]
    answers = await asyncio.gather(
        *(
            agent.answer(ChatMessage(user_id=user, text=f"text of {n}."), 10_000 + n, [])
            for n, user in enumerate(users)
        )
    )
    for n, answer in enumerate(answers):
        reply = answer.text
        assert [user for user in users if user in reply] == [users[n]]
        assert f"has sent {10_000 + n} messages" in reply
        assert f"text of {n}." in reply
