"""Runs the examples that extend the agent."""

from collections.abc import Awaitable, Callable

import pytest

from chat_service.agent.agent import ChatAgent
from chat_service.chat.messages import Answer, ChatMessage, ToolCall
from chat_service.extensions import extended
from tests.real_services import offline

type Ask = Callable[..., Awaitable[Answer]]


@pytest.fixture(params=["whole", "streamed"])
def ask(request: pytest.FixtureRequest) -> Ask:
    """Asks the agent of an example, with the offline model."""

    async def ask(example: str, text: str, user_id: str = "bob") -> Answer:
        agent = ChatAgent(offline(), extend=lambda agent: extended(agent, f"{example}:extend"))
        said: list[str | ToolCall] = []
        say = said.append if request.param == "streamed" else None
        answer = await agent.answer(ChatMessage(user_id=user_id, text=text), 5, [], say)
        assert say is None or "".join(s for s in said if isinstance(s, str)) == answer.text
        return answer

    return ask
