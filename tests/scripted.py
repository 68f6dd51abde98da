"""An agent that is scripted by a test."""

import asyncio
from collections.abc import Sequence

from chat_service.chat.messages import Answer, ChatMessage, Say, ToolCall, Turn
from tests.fakes import FakeAgent

type Step = str | ToolCall | float | asyncio.Event


class ScriptedAgent(FakeAgent):
    """Plays its script for each message: says texts, calls tools, and waits."""

    def __init__(self, *script: Step) -> None:
        super().__init__()
        self.script: list[Step] = [*script]
        self.asked: list[str] = []

    async def answer(
        self,
        message: ChatMessage,
        count: int | None,
        history: Sequence[Turn],
        say: Say | None,
    ) -> Answer:
        self.asked.append(message.text)
        self.histories.append(history)
        script = self.script
        for step in script:
            if isinstance(step, asyncio.Event):
                await step.wait()
            elif isinstance(step, float):
                await asyncio.sleep(step)
            elif say:
                say(step)
        if self.failure:
            raise self.failure
        calls = tuple(step for step in script if isinstance(step, ToolCall))
        return Answer("".join(step for step in script if isinstance(step, str)), calls)
