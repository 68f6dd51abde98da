"""The model for machines without a key. It has no intelligence, but reads the count from its
instructions and calls tools as a real model would, so that everything else can be tried."""

import asyncio
import json
import re
from collections.abc import AsyncGenerator
from typing import Any

from agents.items import ModelResponse, TResponseStreamEvent
from agents.models.interface import Model
from agents.testing import ModelCall, ModelStep, ScriptedModel, assistant_message, function_call

from chat_service.hosts.answers import text_in

_PROFILE = re.compile(
    r'The user\'s id is (?P<user>"(?:[^"\\]|\\.)*")\.'
    r"(?: The user has sent (?P<count>\d+) messages before this one)?"
)
_CLOCK = "get_current_time"
_ASKS_TIME = re.compile(r"\b(time|date|day|clock)\b", re.IGNORECASE)
_ASKS_FIRST = re.compile(r"\bfirst\b", re.IGNORECASE)
_WORD = re.compile(r"\s*\S+|\s+$")


class OfflineModel(Model):
    """Deterministic replies, each labelled as offline. The SDK's own `ScriptedModel`, with a script
    of one step for each call, turns them into the SDK's events, whole or streamed."""

    def __init__(self, *, pause_s: float = 0.02) -> None:
        # After each word, so that a person can watch a stream, and stop it.
        self._pause_s = pause_s

    async def get_response(self, *args: Any, **kwargs: Any) -> ModelResponse:
        return await _one_step().get_response(*args, **kwargs)

    async def stream_response(
        self, *args: Any, **kwargs: Any
    ) -> AsyncGenerator[TResponseStreamEvent]:
        async for event in _one_step().stream_response(*args, **kwargs):
            if event.type != "response.output_text.delta":
                yield event
                continue
            for word in _WORD.findall(event.delta):
                yield event.model_copy(update={"delta": word})
                await asyncio.sleep(self._pause_s)


def _one_step() -> ScriptedModel:
    # Where tracing is off, the SDK ignores these traces.
    return ScriptedModel([ModelStep.respond(_respond)], emit_traces=True)


def _respond(call: ModelCall) -> ModelStep:
    items: Any = call.input  # the SDK always passes a list
    last = items[-1]
    if last.get("type") == "function_call_output":
        name = next(i["name"] for i in reversed(items) if i.get("type") == "function_call")
        output = text_in(last["output"])
        return _say(f"It is {output} (UTC)." if name == _CLOCK else f"{name} says: {output}")
    text = str(last.get("content", ""))
    names = [tool.name for tool in call.tools] + [handoff.tool_name for handoff in call.handoffs]
    if named := _named_tool(names, text):
        # An id has to be unique only within its conversation.
        return ModelStep(output=[function_call(*named, call_id=f"off{len(items):06}")])
    if _ASKS_FIRST.search(text):
        first = next(item for item in items if item.get("role") == "user")
        return _say(f"Your first message in this conversation was: {first['content']}")
    return _say(_greeting(call.system_instructions or ""))


def _named_tool(names: list[str], text: str) -> tuple[str, str] | None:
    """The tool that `text` names, and its arguments: the JSON object after the name, if any."""
    for name in names:
        if found := re.search(rf"\b{re.escape(name)}\b\s*(\{{.*\}})?", text, re.DOTALL):
            return name, found[1] or "{}"
    return (_CLOCK, "{}") if _CLOCK in names and _ASKS_TIME.search(text) else None


def _greeting(instructions: str) -> str:
    profile = _PROFILE.search(instructions)
    user = json.loads(profile["user"]) if profile else "there"
    if profile is None or profile["count"] is None:
        return f"Hello {user}! I can't tell at the moment how many messages you have sent."
    count = int(profile["count"])
    if count == 0:
        return f"Hello {user}! This is your first message: you have sent 0 before it."
    noun = "message" if count == 1 else "messages"
    return f"Hello {user}! You have sent {count} {noun} before this one."


def _say(text: str) -> ModelStep:
    return ModelStep(output=[assistant_message(f"[offline model] {text}")])
