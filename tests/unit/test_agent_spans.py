"""What the spans of an agent's run contain, and what they must not."""

import asyncio
from typing import Any

import agents
import pytest
from agents.testing import ModelStep, ScriptedModel, assistant_message, function_call
from opentelemetry.sdk.trace import ReadableSpan

from chat_service.agent.spans import AgentSpans
from daca_shared.observe.tracing import tracing
from tests.spans import Spans


@pytest.fixture
def spans(monkeypatch: pytest.MonkeyPatch) -> Spans:
    spans = Spans()
    monkeypatch.setattr(tracing, "tracer", spans.tracer)
    return spans


async def run_agent(spans: Spans, *, content: bool, fails: bool = False) -> dict[str, ReadableSpan]:
    @agents.function_tool
    def look_up() -> str:
        return "secret-result"

    last = ModelStep.raise_error(RuntimeError("secret-error")) if fails else None
    steps = [
        ModelStep(output=[function_call("look_up", {}, call_id="c1")]),
        last or ModelStep(output=[assistant_message("secret-reply")]),
    ]
    agents.set_trace_processors([AgentSpans(content=content)])
    agent = agents.Agent(name="A", model=ScriptedModel(steps, emit_traces=True), tools=[look_up])
    config = agents.RunConfig(trace_include_sensitive_data=content)
    try:
        with spans.tracer.start_as_current_span("turn"):
            await agents.Runner.run(agent, "secret-question", run_config=config)
    except RuntimeError:
        assert fails
    finally:
        agents.set_trace_processors([])
    return {span.name: span for span in spans.ended}


async def test_agents_models_and_tools_are_inside_of_the_turn(spans: Spans) -> None:
    found = await run_agent(spans, content=False)
    ids = {name: span.context.span_id for name, span in found.items() if span.context}
    parents = {name: span.parent.span_id for name, span in found.items() if span.parent}
    agent = ids["invoke_agent A"]
    assert parents == {
        "invoke_agent A": ids["turn"], "execute_tool look_up": agent, "chat": agent,
    }  # fmt: skip
    assert "secret" not in "".join(span.to_json() for span in spans.ended)


async def test_content_is_in_spans_only_if_configured(spans: Spans) -> None:
    found = await run_agent(spans, content=True)
    tool = dict(found["execute_tool look_up"].attributes or {})
    assert "secret-result" in str(tool["gen_ai.tool.call.result"])


async def test_a_failing_model_is_seen_without_its_text(spans: Spans) -> None:
    found = await run_agent(spans, content=False, fails=True)
    assert not found["chat"].status.is_ok
    inside = [span for span in spans.ended if span.name != "turn"]
    assert "secret" not in "".join(span.to_json() for span in inside)


class Hanging(ScriptedModel):
    async def get_response(self, *args: Any, **kwargs: Any) -> agents.ModelResponse:
        with agents.generation_span(model="m"):
            await asyncio.Event().wait()
        raise AssertionError


async def test_a_request_to_a_model_that_is_cancelled_has_failed(spans: Spans) -> None:
    agents.set_trace_processors([AgentSpans(content=False)])
    try:
        with pytest.raises(TimeoutError), spans.tracer.start_as_current_span("turn"):
            async with asyncio.timeout(0.1):
                await agents.Runner.run(agents.Agent(name="A", model=Hanging([])), "hi")
    finally:
        agents.set_trace_processors([])
    found = {span.name: span for span in spans.ended}
    assert not found["chat m"].status.is_ok
    assert dict(found["chat m"].attributes or {})["error.type"] == "CancelledError"
