"""The agent: an OpenAI Agents SDK agent whose instructions are made anew for every run."""

import json
import logging
from collections.abc import AsyncGenerator, Iterator
from contextlib import contextmanager
from copy import copy
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import agents
import httpx2
import openai
from agents import _run_state_agent_identity
from agents.exceptions import (
    AgentsException,
    InputGuardrailTripwireTriggered,
    MaxTurnsExceeded,
    ModelTimeoutError,
)
from agents.result import RunResultBase

from chat_service.agent.models import ChatModel
from chat_service.agent.spans import AgentSpans
from chat_service.chat.ports import ChatMessage, Count
from chat_service.turns.memory import Items, Turn
from daca_shared.domain import (
    DomainError,
    Failed,
    InvalidInput,
    LimitReached,
    Misconfigured,
    TimedOut,
    Unavailable,
)
from daca_shared.observe.tracing import NO_TRACING, Tracing

log = logging.getLogger(__name__)

_MAX_TURNS = 6

# Twice in each run the SDK writes down all that an agent is made of, to tell it from others of
# its name: a third of a run's time. We have one.
_run_state_agent_identity._agent_identity_signature = lambda agent: agent.name


@dataclass(frozen=True)
class RunContext:
    """What one run knows of its user. Each run has its own, so no user sees another's."""

    user_id: str
    count: Count


async def instructions(
    context: agents.RunContextWrapper[RunContext], agent: agents.Agent[RunContext]
) -> str:
    """The system prompt of one run. It waits for the count, and so does the model: meanwhile
    the SDK prepares the run."""
    run = context.context
    message_count = await run.count
    # The id is a caller's own text: quoted, it stays a name.
    user = json.dumps(run.user_id, ensure_ascii=False)
    if message_count is None:
        count = (
            "How many messages the user has sent is not known at the moment: "
            "make no claim about it, and say so if asked."
        )
    else:
        count = f"The user has sent {message_count} messages before this one."
    return (
        f"You are a helpful chat assistant. The user's id is {user}. {count} "
        "Let that make your tone more familiar, and mention it when asked. "
        "Use the get_current_time tool when asked for the time or the date."
    )


@agents.function_tool
def get_current_time() -> str:
    """The current date and time in UTC, in ISO 8601."""
    return datetime.now(UTC).isoformat(timespec="seconds")


class ChatAgent:
    """Replies to messages with one model. Nothing in it changes after its making."""

    def __init__(self, model: ChatModel, tracing: Tracing = NO_TRACING) -> None:
        self.model = model.name
        self._agent = agents.Agent[RunContext](
            name="DACA Chat",
            instructions=instructions,
            tools=[get_current_time],
            model=model.model,
            model_settings=model.settings,
        )
        # Left alone, the SDK's own tracing would send conversations to OpenAI.
        self._config = agents.RunConfig(
            tracing_disabled=tracing.tracer is None, trace_include_sensitive_data=tracing.content
        )
        if tracing.tracer is not None:
            agents.set_trace_processors([AgentSpans(tracing.tracer, content=tracing.content)])

    async def reply(self, message: ChatMessage, count: Count, history: Items) -> Turn:
        """The reply to `message`, whose user has sent `count` before.

        Raises `LimitReached`, `TimedOut`, `Unavailable`, `Misconfigured`, `InvalidInput` or
        `Failed` when the model or its host fails, and what `count` raises.
        """
        with _known_errors():
            result = await agents.Runner.run(**self._run(message, count, history))
        return _turn(message, result)

    async def stream(
        self, message: ChatMessage, count: Count, history: Items
    ) -> AsyncGenerator[str | Turn]:
        """The same piece by piece, and last the whole turn. Closing it stops the model."""
        with _known_errors():
            result = agents.Runner.run_streamed(**self._run(message, count, history))
            try:
                async for event in result.stream_events():
                    if event.type != "raw_response_event":
                        continue
                    if event.data.type == "response.output_text.delta":
                        yield event.data.delta
            finally:
                result.cancel()
        yield _turn(message, result)

    def stopped(self, message: ChatMessage, reply: str) -> Turn:
        """The turn of a reply that its user stopped after `reply`."""
        items = [
            _prompt(message),
            {"role": "assistant", "content": f"{reply} [stopped by the user]".lstrip()},
        ]
        return Turn(message.message_id, message.text, reply, items, stopped=True)

    def _run(self, message: ChatMessage, count: Count, history: Items) -> dict[str, Any]:
        return {
            # A copy, as the SDK compares the runs of one agent with each other, all with all.
            "starting_agent": copy(self._agent),
            "input": [*history, _prompt(message)],
            "context": RunContext(message.user_id, count),
            "max_turns": _MAX_TURNS,
            "run_config": self._config,
        }


def _prompt(message: ChatMessage) -> dict[str, Any]:
    return {"role": "user", "content": message.text}


def _turn(message: ChatMessage, result: RunResultBase) -> Turn:
    # The SDK's own sessions would keep the same, for ten times the calls.
    added: list[Any] = [item.to_input_item() for item in result.new_items]
    items = [_prompt(message), *added]
    return Turn(message.message_id, message.text, str(result.final_output), items)


@contextmanager
def _known_errors() -> Iterator[None]:
    try:
        yield
    except DomainError:
        raise
    except Exception as error:
        # Of any kind: a host that answers nonsense shows up as AttributeError and the like.
        failure = _domain_error(error)
        # A known error's own text is the host's, and may quote our key.
        known = isinstance(error, openai.OpenAIError | AgentsException | httpx2.HTTPError)
        log.warning("no reply: %s (%s)", failure, type(error).__name__, exc_info=not known)
        raise failure from None


def _domain_error(error: Exception) -> DomainError:
    """What went wrong, in our words: the host's own may quote our key."""
    match error:
        case openai.RateLimitError():
            return LimitReached("The model's rate limit is reached; try again later")
        # A subclass of APIConnectionError, hence before it.
        case openai.APITimeoutError() | ModelTimeoutError():
            return TimedOut("The model took too long to answer; try again")
        case openai.AuthenticationError() | openai.PermissionDeniedError():
            return Misconfigured("The model's host refuses this service's API key")
        case openai.NotFoundError():
            return Misconfigured("The model's host does not have this service's model")
        case openai.BadRequestError() | openai.UnprocessableEntityError():
            return Failed("The model's host refused the request")
        # A stream that breaks off ends in an error of the HTTP client's own.
        case openai.OpenAIError() | httpx2.HTTPError():
            return Unavailable("The model can't be reached; try again later")
        case InputGuardrailTripwireTriggered():
            return InvalidInput.field("text", "was refused by a guardrail")
        case MaxTurnsExceeded():
            return Failed("The agent found no reply within its turns")
        case _:
            return Failed("The agent could not make a reply")
