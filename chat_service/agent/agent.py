"""The agent: an OpenAI Agents SDK agent whose instructions are made anew for every run."""

import json
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from copy import copy
from dataclasses import dataclass
from typing import Any

import agents
import httpx2
import openai
from agents.tracing.provider import DefaultTraceProvider
from openai.types.responses import ResponseFunctionToolCall, ResponseTextDeltaEvent

from chat_service.agent.models import ChatModel
from chat_service.agent.spans import AgentSpans
from chat_service.agent.tools import TOOLS
from chat_service.chat.messages import Answer, ChatMessage, ToolCall, Turn
from daca_shared import domain
from daca_shared.observe.tracing import NO_TRACING, Tracing

log = logging.getLogger(__name__)

_MAX_TURNS = 6


@dataclass(frozen=True)
class RunContext:
    """What one run knows of its user. Each run has its own, so no user sees another's."""

    user_id: str
    count: int | None
    """How many messages the user has sent before; None if that is not known."""


def instructions(
    context: agents.RunContextWrapper[RunContext], agent: agents.Agent[RunContext]
) -> str:
    """The system prompt of one run."""
    run = context.context
    # The id is a caller's own text: quoted, it stays a name.
    user = json.dumps(run.user_id, ensure_ascii=False)
    count = f"The user has sent {run.count} messages before this one."
    if run.count is None:
        count = (
            "How many messages the user has sent is not known at the moment: "
            "make no claim about it, and say so if asked."
        )
    return (
        f"You are a helpful chat assistant. The user's id is {user}. {count} "
        "Let that make your tone more familiar, and mention it when asked. "
        "Use the get_current_time tool when asked for the time or the date."
    )


class ChatAgent:
    """Replies to messages with one model. It keeps nothing from one run to the next."""

    def __init__(self, model: ChatModel, tracing: Tracing = NO_TRACING) -> None:
        self.model = model.name
        self._agent = agents.Agent[RunContext](
            name="DACA Chat",
            instructions=instructions,
            tools=TOOLS,
            model=model.model,
            model_settings=model.settings,
        )
        # Left alone, the SDK's own tracing would send conversations to OpenAI, and have a client
        # for that which a proxy in the environment can break.
        agents.set_trace_provider(DefaultTraceProvider())
        self._config = agents.RunConfig(
            tracing_disabled=tracing.tracer is None, trace_include_sensitive_data=tracing.content
        )
        if tracing.tracer is not None:
            agents.set_trace_processors([AgentSpans(tracing.tracer, content=tracing.content)])

    async def answer(
        self,
        message: ChatMessage,
        count: int | None,
        history: Sequence[Turn],
        say: Callable[[str], None] | None = None,
    ) -> Answer:
        """Raises a `DomainError` when the model or its host fails."""
        before = [{"role": role, "content": text} for role, text in message.history]
        run: dict[str, Any] = {
            # A copy: the SDK compares each run of an agent with all its other runs under way.
            "starting_agent": copy(self._agent),
            "input": [*_items(history), *before, {"role": "user", "content": message.text}],
            "context": RunContext(message.user_id, count),
            "max_turns": _MAX_TURNS,
            "run_config": self._config,
        }
        with _known_errors():
            if say is None:
                return _answer(await agents.Runner.run(**run))
            result = agents.Runner.run_streamed(**run)
            try:
                async for event in result.stream_events():
                    match event:
                        case agents.RawResponsesStreamEvent(data=ResponseTextDeltaEvent() as said):
                            say(said.delta)
            finally:
                result.cancel()
            return _answer(result)


def _items(history: Sequence[Turn]) -> list[dict[str, Any]]:
    """What was said, as the SDK's items. Ids of calls are our own: another host's may not fit."""
    items: list[dict[str, Any]] = []
    for turn in history:
        items.append({"role": "user", "content": turn.prompt})
        for number, call in enumerate(turn.answer.tool_calls):
            call_id = f"call_{turn.seq}_{number}"
            asked = {"type": "function_call", "name": call.tool, "arguments": call.arguments}
            answered = {"type": "function_call_output", "output": call.output}
            items += [asked | {"call_id": call_id}, answered | {"call_id": call_id}]
        reply = f"{turn.answer.text} [stopped by the user]" if turn.stopped else turn.answer.text
        items.append({"role": "assistant", "content": reply.lstrip()})
    return items


def _answer(result: agents.RunResult | agents.RunResultStreaming) -> Answer:
    outputs: dict[str, str] = {}
    calls: list[ResponseFunctionToolCall] = []
    for item in result.new_items:
        if isinstance(item, agents.ToolCallOutputItem) and isinstance(item.raw_item, dict):
            outputs[str(item.raw_item.get("call_id"))] = str(item.output)
        elif isinstance(item.raw_item, ResponseFunctionToolCall):
            calls.append(item.raw_item)
    return Answer(
        str(result.final_output),
        tuple(ToolCall(call.name, call.arguments, outputs.get(call.call_id, "")) for call in calls),
    )


@contextmanager
def _known_errors() -> Iterator[None]:
    try:
        yield
    except domain.DomainError:
        raise
    except Exception as error:
        # Of any kind: a host that answers nonsense shows up as AttributeError and the like.
        failure = _domain_error(error)
        failure.code = f"MODEL_{failure.code}"
        # No traceback of a known error: its text is the host's, and may quote our key.
        known = isinstance(error, openai.OpenAIError | agents.AgentsException | httpx2.HTTPError)
        log.warning("no reply: %s (%s)", failure, type(error).__name__, exc_info=not known)
        raise failure from None


def _domain_error(error: Exception) -> domain.DomainError:
    """What went wrong, in our words: the host's own may quote our key."""
    match error:
        case openai.RateLimitError():
            return domain.LimitReached("The model's rate limit is reached; try again later")
        # A subclass of APIConnectionError, hence before it.
        case openai.APITimeoutError() | agents.ModelTimeoutError():
            return domain.TimedOut("The model took too long to answer; try again")
        case openai.AuthenticationError() | openai.PermissionDeniedError():
            return domain.Misconfigured("The model's host refuses this service's API key")
        case openai.NotFoundError():
            return domain.Misconfigured("The model's host does not have this service's model")
        case openai.BadRequestError() | openai.UnprocessableEntityError():
            return domain.Failed("The model's host refused the request")
        # A stream of OpenAI's that breaks off ends in an error of its HTTP client's own.
        case openai.OpenAIError() | httpx2.HTTPError():
            return domain.Unavailable("The model can't be reached; try again later")
        case agents.InputGuardrailTripwireTriggered():
            return domain.InvalidInput.field("text", "was refused by a guardrail")
        case agents.MaxTurnsExceeded():
            return domain.Failed("The agent found no reply within its turns")
        case _:
            return domain.Failed("The agent could not make a reply")
