"""What settings add to the agent, also if that is wrong, and what tools may do."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import agents
import pytest
from agents.items import TResponseOutputItem
from agents.testing import ModelStep, ScriptedModel, assistant_message, function_call
from openai.types.responses import ResponseOutputMessage, ResponseOutputRefusal

from chat_service.agent.agent import ChatAgent, OurAgent, RunContext
from chat_service.agent.models import ChatModel
from chat_service.chat.messages import Answer, ChatMessage, Say, ToolCall
from chat_service.extensions import extended
from daca_shared.domain import Failed, InvalidInput, Misconfigured, Unavailable
from tests.real_services import offline


async def ask(agent: ChatAgent, text: str, say: Say | None = None) -> str:
    return (await answer(agent, text, say)).text


async def answer(agent: ChatAgent, text: str, say: Say | None = None) -> Answer:
    return await agent.answer(ChatMessage(user_id="bob", text=text), 5, [], say)


def with_tool(function: Callable[..., object]) -> ChatAgent:
    tool = agents.function_tool(function)
    return ChatAgent(offline(), extend=lambda agent: agent.clone(tools=[tool]))


def calling(tool: str, n: int) -> TResponseOutputItem:
    return function_call(tool, "{}", call_id=f"{tool}{n}")


def undecorated(agent: OurAgent) -> OurAgent:
    return agent.clone(tools=[calling])


@pytest.mark.parametrize(
    ("function", "told"),
    [
        ("nowhere:extend", "No module named 'nowhere'"),
        ("examples.tool:nothing", "no attribute 'nothing'"),
        ("examples.tool:days_until", "not callable"),
        ("not a name", "invalid format"),
        ("json:dumps", "not JSON serializable"),
        ("builtins:repr", "must return an agents.Agent"),
        ("sys:exit", "SystemExit"),
        ("tests.unit.test_extensions:undecorated", "@function_tool, not <function"),
    ],
)
def test_an_invalid_function_is_refused_by_name(function: str, told: str) -> None:
    with pytest.raises(Misconfigured, match=f"CHAT_AGENT: {function} .*{told}"):
        ChatAgent(offline(), extend=lambda agent: extended(agent, function))


@pytest.mark.parametrize("say", [None, lambda piece: None], ids=["whole", "streamed"])
async def test_a_tools_exception_is_for_the_log_only(
    caplog: pytest.LogCaptureFixture, say: Say | None
) -> None:
    def look_up(name: str) -> str:
        raise OSError(f"no route to db://user:secret@host for {name}")

    reply = await ask(with_tool(look_up), 'look_up {"name": "Rex"}', say)
    assert reply == "[offline model] look_up says: The tool has failed."
    assert "no route to db" in caplog.text


@pytest.mark.parametrize("say", [None, lambda piece: None], ids=["whole", "streamed"])
async def test_what_a_tool_returns_is_the_reply_where_its_agent_says_so(say: Say | None) -> None:
    def extend(agent: OurAgent) -> OurAgent:
        tool = agents.function_tool(lambda: {"at": 12}, name_override="now")
        return agent.clone(tools=[tool], tool_use_behavior="stop_on_first_tool")

    found = await answer(ChatAgent(offline(), extend=extend), "now", say)
    assert found == Answer("{'at': 12}", (ToolCall("now", "{}", "{'at': 12}"),))


async def test_a_tool_may_make_0_the_reply() -> None:
    def extend(agent: OurAgent) -> OurAgent:
        tool = agents.function_tool(lambda: 0, name_override="misses")
        return agent.clone(tools=[tool], tool_use_behavior="stop_on_first_tool", output_type=int)

    assert await ask(ChatAgent(offline(), extend=extend), "misses") == "0"


async def test_a_tool_called_with_wrong_arguments_tells_the_model_why() -> None:
    def look_up(name: str) -> str:
        return name

    assert "Invalid JSON input" in await ask(with_tool(look_up), 'look_up {"nome": "Rex"}')


@pytest.mark.parametrize("where", ["before", "after"])
async def test_a_tools_guardrail_is_a_clear_error(where: str) -> None:
    def trips(data: object) -> agents.ToolGuardrailFunctionOutput:
        return agents.ToolGuardrailFunctionOutput.raise_exception()

    tool = agents.function_tool(lambda: "done", name_override="do")
    if where == "before":
        tool.tool_input_guardrails = [agents.ToolInputGuardrail(trips)]
    else:
        tool.tool_output_guardrails = [agents.ToolOutputGuardrail(trips)]
    agent = ChatAgent(offline(), extend=lambda agent: agent.clone(tools=[tool]))
    with pytest.raises(InvalidInput, match="led to what a guardrail refuses"):
        await ask(agent, "do it")


WAYS = pytest.mark.parametrize("say", [None, lambda piece: None], ids=["whole", "streamed"])


async def cancelled(*_: object) -> agents.GuardrailFunctionOutput:
    raise asyncio.CancelledError


async def group(*_: object) -> agents.GuardrailFunctionOutput:
    raise BaseExceptionGroup("", [asyncio.CancelledError()])


class Panic(BaseException):
    """As Rust's libraries raise it (PyO3's `PanicException`)."""


async def panic(*_: object) -> agents.GuardrailFunctionOutput:
    raise Panic


@WAYS
@pytest.mark.parametrize("ends", [cancelled, group, panic])
@pytest.mark.parametrize("where", ["instructions", "input", "output"])
async def test_an_extension_that_cancels_itself_or_panics_is_an_error(
    say: Say | None,
    where: str,
    ends: Callable[..., Awaitable[agents.GuardrailFunctionOutput]],
    caplog: pytest.LogCaptureFixture,
) -> None:
    given: Any = {
        "instructions": {"instructions": ends},
        "input": {"input_guardrails": [agents.InputGuardrail(ends)]},
        "output": {"output_guardrails": [agents.OutputGuardrail(ends)]},
    }[where]
    agent = ChatAgent(offline(), extend=lambda agent: agent.clone(**given))
    with pytest.raises((Failed, Unavailable)):
        await asyncio.wait_for(answer(agent, "hi", say), 5)
    assert "no reply" in caplog.text


@WAYS
@pytest.mark.parametrize("is_blocking", [False, True])
async def test_a_tool_that_panics_is_an_error(say: Say | None, is_blocking: bool) -> None:
    def blocking() -> None:
        raise Panic

    agent = with_tool(blocking if is_blocking else panicking)
    with pytest.raises(Failed, match="could not make a reply"):
        await asyncio.wait_for(answer(agent, "blocking panicking", say), 5)


async def panicking() -> None:
    raise Panic


@WAYS
async def test_text_before_a_call_that_nobody_approves_is_kept(
    say: Say | None,
) -> None:
    @agents.function_tool(needs_approval=True)
    def wipe() -> str:
        return "gone"

    def extend(agent: OurAgent) -> OurAgent:
        return agent.clone(tools=[wipe, agents.function_tool(lambda: "noon", name_override="now")])

    steps = [
        ModelStep(output=[assistant_message(f"Try {n}"), calling("wipe", n), calling("now", n)])
        for n in (1, 2)
    ]
    model = ScriptedModel([*steps, ModelStep(output=[assistant_message("I may not.")])])
    agent = ChatAgent(ChatModel("m", model, agents.ModelSettings()), extend=extend)
    found = await asyncio.wait_for(answer(agent, "wipe it", say), 5)
    assert found.text == "Try 1\n\nTry 2\n\nI may not."
    made = [("wipe", "Tool execution was not approved."), ("now", "noon")]
    assert [(call.tool, call.output) for call in found.tool_calls] == made * 2


async def test_a_model_that_asks_for_approval_for_ever_is_stopped() -> None:
    wipe = agents.function_tool(lambda: "gone", name_override="wipe", needs_approval=True)
    model = ScriptedModel([ModelStep(output=[calling("wipe", n)]) for n in range(30)])
    settings = agents.ModelSettings()
    agent = ChatAgent(ChatModel("m", model, settings), extend=lambda a: a.clone(tools=[wipe]))
    with pytest.raises(Failed, match="no reply within its turns"):
        await ask(agent, "wipe it")


@WAYS
async def test_a_models_refusal_is_the_reply(say: Say | None) -> None:
    model = ScriptedModel([ModelStep(output=[refused()])])
    agent = ChatAgent(ChatModel("m", model, agents.ModelSettings()))
    assert await ask(agent, "hi", say) == "I won't."


@WAYS
async def test_a_models_refusal_is_an_error_if_the_reply_must_not_be_text(
    say: Say | None,
) -> None:
    model = ScriptedModel([ModelStep(output=[refused()])])
    chosen = ChatModel("m", model, agents.ModelSettings())
    agent = ChatAgent(chosen, extend=lambda agent: agent.clone(output_type=list[str]))
    with pytest.raises(InvalidInput, match="was refused by the model"):
        await ask(agent, "hi", say)


def refused() -> TResponseOutputItem:
    said = [ResponseOutputRefusal(type="refusal", refusal="I won't.")]
    return ResponseOutputMessage(
        id="1", type="message", role="assistant", status="completed", content=said
    )


async def test_the_models_settings_are_those_of_all_agents_also_if_the_first_is_changed() -> None:
    def extend(agent: OurAgent) -> OurAgent:
        agent.handoffs.append(agents.Agent[RunContext](name="Poet"))
        return agent

    steps = [calling("transfer_to_poet", 1), assistant_message("Rose")]
    model = ScriptedModel([ModelStep(output=[step]) for step in steps])
    settings = agents.ModelSettings(include_usage=True)
    assert await ask(ChatAgent(ChatModel("m", model, settings), extend=extend), "sing") == "Rose"
    assert [call.model_settings.include_usage for call in model.calls] == [True, True]
