"""The Agents SDK's own traces as OpenTelemetry spans: agents, models and tools.

Names: OpenTelemetry's semantic conventions for generative AI.
"""

import json
from typing import Any

from agents.tracing import (
    AgentSpanData,
    FunctionSpanData,
    GenerationSpanData,
    ResponseSpanData,
    Span,
    Trace,
    TracingProcessor,
)
from opentelemetry import trace

type _Attributes = dict[str, str | int]


class AgentSpans(TracingProcessor):
    """Makes a span of each run of an agent, each request to a model and each call of a tool."""

    def __init__(self, tracer: trace.Tracer, *, content: bool) -> None:
        self._tracer = tracer
        self._content = content
        # By the SDK's ids. Of the SDK's other spans (a task, a turn) their parent stands here.
        self._open: dict[str, trace.Span] = {}

    def on_span_start(self, span: Span[Any]) -> None:
        """Begin it inside of its parent's, or of the chat's."""
        parent = self._open.get(span.parent_id or "") or trace.get_current_span()
        if (name := _name(span.span_data)) is not None:
            context = trace.set_span_in_context(parent)
            parent = self._tracer.start_span(name, context, _kind(span.span_data))
        self._open[span.span_id] = parent

    def on_span_end(self, span: Span[Any]) -> None:
        """End it, with what is known of it by then."""
        ours = self._open.pop(span.span_id, None)
        if ours is None or (name := _name(span.span_data)) is None:
            return
        ours.update_name(name)
        ours.set_attributes(_attributes(span.span_data))
        if self._content:
            ours.set_attributes(_content(span.span_data))
        if span.error is not None:
            # Its text may be a host's or a message's.
            ours.set_attribute("error.type", "agent_error")
            ours.set_status(trace.StatusCode.ERROR)
        ours.end()

    def on_trace_start(self, trace: Trace) -> None:
        """Nothing: a chat has a span already."""

    def on_trace_end(self, trace: Trace) -> None:
        """Nothing."""

    def shutdown(self) -> None:
        """Nothing: `daca_shared.observe.otel` sends."""

    def force_flush(self) -> None:
        """Nothing."""


def _name(data: Any) -> str | None:
    match data:
        case AgentSpanData():
            return f"invoke_agent {data.name}"
        case FunctionSpanData():
            return f"execute_tool {data.name}"
        case GenerationSpanData() | ResponseSpanData():
            return f"chat {model}" if (model := _model(data)) else "chat"
    return None


def _kind(data: Any) -> trace.SpanKind:
    is_request = isinstance(data, GenerationSpanData | ResponseSpanData)
    return trace.SpanKind.CLIENT if is_request else trace.SpanKind.INTERNAL


def _model(data: GenerationSpanData | ResponseSpanData) -> str | None:
    if isinstance(data, GenerationSpanData):
        return data.model
    return data.response.model if data.response else None


def _attributes(data: Any) -> _Attributes:
    match data:
        case AgentSpanData():
            return {"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": data.name}
        case FunctionSpanData():
            return {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": data.name}
    found: _Attributes = {"gen_ai.operation.name": "chat"}
    if model := _model(data):
        found["gen_ai.request.model"] = model
    for name in ("input_tokens", "output_tokens"):
        if (count := (data.usage or {}).get(name)) is not None:
            found[f"gen_ai.usage.{name}"] = count
    return found


def _content(data: Any) -> _Attributes:
    match data:
        case FunctionSpanData():
            texts = {"tool.call.arguments": data.input, "tool.call.result": data.output}
        case GenerationSpanData():
            texts = {"input.messages": data.input, "output.messages": data.output}
        case ResponseSpanData():
            output = (
                [i.model_dump(mode="json") for i in data.response.output] if data.response else None
            )
            texts = {"input.messages": data.input, "output.messages": output}
        case _:
            texts = {}
    return {f"gen_ai.{k}": json.dumps(v, default=str) for k, v in texts.items() if v is not None}
