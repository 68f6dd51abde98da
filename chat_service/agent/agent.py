"""The agent: an OpenAI Agents SDK agent whose instructions are built for each run."""

import asyncio
import json
import logging
from collections.abc import Callable, Sequence
from copy import copy
from dataclasses import dataclass
from typing import Any

import agents
from agents.mcp import MCPServer
from openai.types import responses

from chat_service.agent import tools
from chat_service.agent.items import answer_of, items_of, latest, length_of
from chat_service.agent.models import ChatModel
from chat_service.agent.spans import trace_runs
from chat_service.chat.messages import Answer, ChatMessage, Say, ToolCall, Turn
from chat_service.chat.speech import Speech, clean
from chat_service.hosts.refusals import LACKS_TOOLS, TOO_LONG, logged_failure, refuses
from daca_shared.observe.tracing import tracing

log = logging.getLogger(__name__)

_DELTAS = responses.ResponseTextDeltaEvent | responses.ResponseRefusalDeltaEvent
_CALL = responses.ResponseFunctionToolCall
_INVALID_PARAMS = -32602  # of JSON-RPC
# The SDK also logs that an MCP tool has failed, but not which: `_tool_failure` does.
logging.getLogger("openai.agents").addFilter(lambda line: "MCP tool" not in line.getMessage())


@dataclass(frozen=True)
class RunContext:
    """What one run knows of its user. Each run has its own, so no user sees another's."""

    user_id: str
    count: int | None
    """How many messages the user has sent before; None if that is not known."""


type OurAgent = agents.Agent[RunContext]


def instructions(context: agents.RunContextWrapper[RunContext], agent: OurAgent) -> str:
    run = context.context
    # The id is the caller's own text. In quotes it can't pass for an instruction.
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
        "If you are asked for what you can't know, such as the time, and can't find out, say so."
    )


def _has_tools(agent: OurAgent) -> bool:
    return bool(agent.tools or agent.handoffs or agent.mcp_servers)


class ChatAgent:
    """Replies to messages with one model. It remembers nothing but whether that supports tools."""

    def __init__(
        self,
        model: ChatModel,
        max_history_length: int = 60_000,
        max_reply_length: int = 100_000,
        *,
        mcp_servers: list[MCPServer] | None = None,
        extend: Callable[[OurAgent], OurAgent] | None = None,
    ) -> None:
        self.model = model.name
        self._key = model.client.api_key if model.client else "no-key"
        self._history_limit = max_history_length
        self._max_reply_length = max_reply_length
        ours = agents.Agent[RunContext](
            name="DACA Chat",
            instructions=instructions,
            tools=[tool for tool in vars(tools).values() if isinstance(tool, agents.FunctionTool)],
            mcp_servers=[] if mcp_servers is None else mcp_servers,
            mcp_config={
                "include_server_in_tool_names": True,
                "failure_error_function": _tool_failure,
            },
            model=model.model,
            model_settings=model.settings,
        )
        self._agent = extend(ours) if extend else ours
        trace_runs()
        self._config = agents.RunConfig(
            # For agents that an extension adds. Merging these settings costs 4 % of the throughput.
            model=model.model,
            model_settings=model.settings if extend else None,
            tracing_disabled=tracing.tracer is None,
            trace_include_sensitive_data=tracing.content,
            tool_not_found_behavior="return_error_to_model",
            # The text that a model gets for our own tools' errors; None stands for the SDK's own.
            tool_error_formatter=lambda failed: (
                _tool_failure(failed.run_context, failed.error) if failed.error else None
            ),
        )

    async def answer(
        self,
        message: ChatMessage,
        count: int | None,
        history: Sequence[Turn],
        say: Say | None = None,
    ) -> Answer:
        """Raises a `DomainError` when the model or its host fails. If tools are not supported, the
        model is asked again without them, now and in later chats. If the history is too long, it
        is asked again with the newer half, then with a quarter of that, then with none."""
        context = RunContext(message.user_id, count)
        agent, limit = self._agent, self._history_limit
        # Only a few tries, as each may run tools again and counts against the host's rate limit.
        shares = iter((0.5, 0.25, 0))
        while True:
            speech = Speech(self._max_reply_length, say)
            before = items_of(message.history, history, with_tools=_has_tools(agent))
            shown = latest(before, limit)
            items = [*shown, {"role": "user", "content": message.text}]
            try:
                answer = await self._run(agent, items, context, speech)
            except BaseException as error:
                # An extension may cancel itself, or panic in Rust: that is a failure, too.
                task = asyncio.current_task()
                if task and task.cancelling() and not isinstance(error, Exception):
                    raise
                failure = logged_failure(error, self._key)
                length = sum(map(length_of, shown))
                if not speech.text and _has_tools(agent) and refuses(error, LACKS_TOOLS):
                    agent = agent.clone(tools=[], handoffs=[], mcp_servers=[])
                elif not speech.text and length and refuses(error, TOO_LONG):
                    limit = int(length * next(shares))
                else:
                    raise failure from None
                log.warning("asking again; tools: %s, history: %d", _has_tools(agent), limit)
            else:
                if not _has_tools(agent):
                    self._agent = agent  # so that no later chat has to ask twice
                return answer

    async def _run(
        self, agent: OurAgent, run_input: Any, context: RunContext, speech: Speech
    ) -> Answer:
        # A copy, because the SDK compares each run of an agent with all its other current runs.
        agent = copy(agent)
        run: Any = agents.Runner.run_streamed if speech.say else agents.Runner.run
        options = {"run_config": self._config, "error_handlers": {"model_refusal": _refusal}}
        while True:
            begun = run(agent, run_input, context=context, **options)
            result = await (_streamed(begun, speech) if speech.say else begun)
            if not result.interruptions:
                return answer_of(result, speech)
            # Nobody is here to approve a tool call. The model is told so, and goes on.
            run_input = result.to_state()
            for call in result.interruptions:
                run_input.reject(call)


async def _streamed(result: agents.RunResultStreaming, speech: Speech) -> agents.RunResultStreaming:
    try:
        async for event in result.stream_events():
            match event:
                case agents.RawResponsesStreamEvent(data=piece) if isinstance(piece, _DELTAS):
                    speech.add(piece.delta)
                case agents.RawResponsesStreamEvent(data=responses.ResponseOutputItemDoneEvent()):
                    speech.end_message()
                case agents.RunItemStreamEvent(name="tool_called", item=item):
                    if speech.say and isinstance(call := item.raw_item, _CALL):
                        speech.say(ToolCall(clean(call.name), clean(call.arguments)))
    finally:
        result.cancel()
    return result


def _refusal(failed: Any) -> str | None:
    """A model's refusal is its reply, unless its agent must reply with something else than text."""
    is_text = failed.run_data.last_agent.output_type in (None, str)
    return failed.error.refusal if is_text else None


def _tool_failure(context: agents.RunContextWrapper[Any], error: Exception) -> str:
    """The text that a model gets, and may pass on to its user, when a tool raises. It quotes the
    exception only if that is about how to call the tool."""
    # Wrong arguments are reported by the MCP server, or in its place by the SDK.
    is_of_mcp = getattr(error, "code", 0) == _INVALID_PARAMS
    is_of_sdk = isinstance(error, agents.UserError) and "missing required parameters" in str(error)
    if is_of_mcp or is_of_sdk or isinstance(error, agents.ModelBehaviorError):
        return f"{agents.default_tool_error_function(context, error)} {error}"
    name = getattr(context, "qualified_tool_name", "of this agent")
    log.warning("the tool %s has failed", name, exc_info=error)
    return "The tool has failed."
