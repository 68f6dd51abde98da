"""The examples that extend the agent, and what they do with any model."""

import runpy
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from agents import FunctionTool

from chat_service.chat.messages import ToolCall
from daca_shared.domain import InvalidInput
from scripts.lib.project import ROOT
from tests.examples.conftest import Ask


async def test_a_tool_is_called(ask: Ask) -> None:
    day = datetime.now(UTC).date() + timedelta(days=30)
    answer = await ask("examples.tool", f'days_until {{"day": "{day}"}}')
    assert answer.text in {f"[offline model] days_until says: {n}" for n in (29, 30)}


def test_the_documents_tool_needs_nothing_that_its_file_lacks(tmp_path: Path) -> None:
    printed = (
        (ROOT / "docs/extending.md").read_text().partition("```python\n")[2].partition("```")[0]
    )
    file = tmp_path / "tools.py"
    file.write_text((ROOT / "chat_service/agent/tools.py").read_text() + "\n\n" + printed)
    assert isinstance(runpy.run_path(str(file))["days_until"], FunctionTool)


async def test_the_built_in_tools_still_work(ask: Ask) -> None:
    assert "It is 20" in (await ask("examples.tool", "What time is it?")).text


async def test_a_handoff_ends_at_the_other_agent(ask: Ask) -> None:
    answer = await ask("examples.handoff", "transfer_to_poet")
    assert "Poet" in answer.text
    assert answer.tool_calls == (ToolCall("transfer_to_poet", "{}", '{"assistant": "Poet"}'),)


async def test_a_guardrail_refuses_a_message_as_an_error_of_its_field(ask: Ask) -> None:
    with pytest.raises(InvalidInput, match="text: was refused by a guardrail"):
        await ask("examples.guardrails", "my card is 4111 1111 1111 1111")


async def test_a_guardrail_refuses_a_reply(ask: Ask) -> None:
    with pytest.raises(InvalidInput, match="text: led to what a guardrail refuses"):
        await ask("examples.guardrails", "the first was from me@example.com")


async def test_guardrails_let_all_else_pass(ask: Ask) -> None:
    assert "5 messages" in (await ask("examples.guardrails", "call 4111 at 11:11")).text


async def test_an_approved_tool_call_is_made(ask: Ask) -> None:
    answer = await ask("examples.approval", 'refund {"order": 7}', "alice")
    assert answer.text == "[offline model] refund says: order 7 is paid back"


async def test_a_call_that_nobody_approves_still_gets_a_reply(ask: Ask) -> None:
    answer = await ask("examples.approval", 'refund {"order": 7}')
    refused = "Tool execution was not approved."
    assert answer.text == f"[offline model] refund says: {refused}"
    assert answer.tool_calls == (ToolCall("refund", '{"order": 7}', refused),)
