"""The conversation, and what a run made of it, as the Agents SDK's items."""

from collections.abc import Sequence
from typing import Any

import agents
from openai.types.responses import ResponseFunctionToolCall

from chat_service.chat.messages import Answer, Said, ToolCall, Turn
from chat_service.chat.speech import Speech, clean
from chat_service.hosts.answers import is_object, text_in
from daca_shared.domain import Unavailable

# How many characters of one tool output, and of a turn's outputs, are kept; its run gets all.
_MAX_OUTPUT, _MAX_OUTPUTS = 4000, 20_000


def items_of(
    said: Sequence[Said], turns: Sequence[Turn], *, with_tools: bool
) -> list[dict[str, Any]]:
    """What was said before as the SDK's input items, in a form that every host accepts: call ids of
    nine letters and digits (Mistral), arguments that are JSON objects, and no empty text."""
    items: list[dict[str, Any]] = [{"role": role, "content": text} for role, text in said]
    for turn in turns:
        items.append({"role": "user", "content": turn.prompt})
        for call in turn.answer.tool_calls if with_tools else ():
            call_id = f"call{len(items):05}"
            arguments = call.arguments if is_object(call.arguments) else "{}"
            call_item = {"type": "function_call", "name": call.tool, "arguments": arguments}
            output_item = {"type": "function_call_output", "output": call.output or "(nothing)"}
            items += [item | {"call_id": call_id} for item in (call_item, output_item)]
        reply = f"{turn.answer.text} [stopped by the user]" if turn.stopped else turn.answer.text
        items.append({"role": "assistant", "content": reply.strip() or "(nothing)"})
    return items


def length_of(item: dict[str, Any]) -> int:
    """How many characters the item counts against the history's limit."""
    if "role" not in item:  # a tool's call, or its output
        return len(item.get("arguments") or item.get("output", ""))
    return 0 if item["role"] == "system" else len(item["content"])


def latest(items: Sequence[dict[str, Any]], max_length: int) -> list[dict[str, Any]]:
    """All system messages, and as many of the latest others as have at most `max_length`
    characters together, from a message of the user on unless all fit."""
    start, left = len(items), max_length
    for n, item in reversed([*enumerate(items)]):
        left -= length_of(item)
        if left >= 0 and (item.get("role") == "user" or n == 0):
            start = n
    return [item for n, item in enumerate(items) if n >= start or item.get("role") == "system"]


def answer_of(result: agents.RunResult | agents.RunResultStreaming, speech: Speech) -> Answer:
    outputs: dict[str, str] = {}
    calls: dict[str, tuple[str, str]] = {}  # a call that needs approval occurs twice
    last, was_heard = "", bool(speech.text)
    for item in result.new_items:
        # openai's types parse an item of an unknown kind as a message without content.
        if isinstance(item, agents.MessageOutputItem) and item.raw_item.content:
            last = agents.ItemHelpers.text_message_output(item)
            if not was_heard:
                speech.add(last)
                speech.end_message()
        elif isinstance(item.raw_item, dict) and item.type.endswith("_output_item"):
            outputs[str(item.raw_item.get("call_id"))] = clean(text_in(item.raw_item.get("output")))
            last = ""
        elif isinstance(item.raw_item, ResponseFunctionToolCall):
            calls[item.raw_item.call_id] = clean(item.raw_item.name), clean(item.raw_item.arguments)
    if not last.strip() and result.final_output is not None:
        # With `tool_use_behavior`, an agent may make a tool's output the reply.
        last = str(result.final_output)
        speech.add(last)
        speech.end_message()
    if not last.strip() or result.final_output is None:  # None: an extension ended the run
        raise Unavailable("The model has given no answer; try again")
    limit = min(_MAX_OUTPUT, _MAX_OUTPUTS // max(1, len(calls)))
    shortened = {
        call_id: output if len(output) <= limit else f"{output[:limit]} [shortened]"
        for call_id, output in outputs.items()
    }
    kept = [ToolCall(*call, shortened.get(call_id, "")) for call_id, call in calls.items()]
    speech.count(sum(len(call.arguments + call.output) for call in kept))
    return Answer(speech.text, tuple(kept))
