"""The Agents SDK's traces as spans, named by OpenTelemetry's conventions for generative AI."""

import asyncio
import json
import sys
from functools import partial
from typing import Any

from agents import tracing as sdk
from agents.tracing.provider import DefaultTraceProvider
from opentelemetry.trace import Span, SpanKind, get_current_span, set_span_in_context
from pydantic_core import to_jsonable_python

from daca_shared.observe.tracing import fail, tracing

_plain = partial(to_jsonable_python, serialize_unknown=True)
_CHAT = "chat", "request.model", "input.messages", "output.messages"
# The operation's name, and the attributes for its agent, model or tool, its input and its output.
_OPERATIONS: dict[type, tuple[str, ...]] = {
    sdk.AgentSpanData: ("invoke_agent", "agent.name"),
    sdk.FunctionSpanData: ("execute_tool", "tool.name", "tool.call.arguments", "tool.call.result"),
    sdk.GenerationSpanData: _CHAT,
    sdk.ResponseSpanData: _CHAT,
}


def trace_runs() -> None:
    """Trace all agent runs in this process in this way, or not at all if tracing is off."""
    # By default the SDK would send conversations to OpenAI, with a client that a proxy in the
    # environment can break.
    sdk.set_trace_provider(DefaultTraceProvider())
    if tracing.tracer is not None:
        sdk.set_trace_processors([AgentSpans(content=tracing.content)])


class AgentSpans(sdk.TracingProcessor):
    def __init__(self, *, content: bool) -> None:
        self._content = content
        # Our spans by the SDK's span ids. For kinds that we don't show (task, turn): the parent's.
        self._open: dict[str, Span] = {}

    def on_span_start(self, span: sdk.Span[Any]) -> None:
        """Begin a span inside its parent's, or inside the chat's if it has none."""
        ours = self._open.get(span.parent_id or "") or get_current_span()
        operation = _OPERATIONS.get(type(span.span_data))
        if operation and tracing.tracer:
            kind = SpanKind.CLIENT if operation is _CHAT else SpanKind.INTERNAL
            ours = tracing.tracer.start_span(operation[0], set_span_in_context(ours), kind)
        self._open[span.span_id] = ours

    def on_span_end(self, span: sdk.Span[Any]) -> None:
        ours = self._open.pop(span.span_id, None)
        operation = _OPERATIONS.get(type(span.span_data))
        if ours is None or operation is None:
            return
        name, subject, *contents = operation
        data = span.span_data
        # With the Responses API only the response says which model was used, and what it made.
        source = data.response if isinstance(data, sdk.ResponseSpanData) else data
        attributes: dict[str, Any] = {"operation.name": name}
        if whose := getattr(source, "model" if operation is _CHAT else "name", None):
            ours.update_name(f"{name} {whose}")
            attributes[subject] = whose
        if operation is _CHAT:
            usage = data.usage or {}
            attributes |= {f"usage.{n}": usage.get(n) for n in ("input_tokens", "output_tokens")}
        if self._content and contents:
            values = zip(contents, (data.input, getattr(source, "output", None)), strict=True)
            attributes |= {k: json.dumps(v, default=_plain) for k, v in values if v is not None}
        ours.set_attributes({f"gen_ai.{k}": v for k, v in attributes.items() if v is not None})
        cancelled = isinstance(sys.exception(), asyncio.CancelledError)
        if span.error is not None or cancelled:
            # Not the error's text, which may be a host's, or quote a message.
            fail(ours, "CancelledError" if cancelled else "agent_error")
        ours.end()

    def _ignore(self, *_: Any, **__: Any) -> None:
        """Nothing to do: a chat has its own span, and `daca_shared.observe.otel` sends."""

    on_trace_start = on_trace_end = shutdown = force_flush = _ignore
