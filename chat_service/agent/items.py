"""The conversation, and what a run made of it, as the Agents SDK's items."""

from collections.abc import Sequence
from typing import Any

import agents
from openai.types.responses import ResponseFunctionToolCall

from chat_service.chat.messages import Answer, ToolCall, Turn
from chat_service.chat.speech import Speech, clean
from chat_service.hosts.answers import is_object, text_in
from daca_shared.domain import Unavailable

# How many characters of tools' outputs are kept: of one and of all. In its own run the model reads
# all of them.
_MAX_OUTPUT, _MAX_OUTPUTS = 4000, 20_000


def items_of(history: Sequence[Turn], text: str, *, with_tools: bool) -> list[dict[str, Any]]:
    """The conversation as the SDK's input items, in a form that every host accepts: call ids of
    nine letters and digits (Mistral), arguments that are JSON objects, and no empty text."""
    items: list[dict[str, Any]] = []
    for turn in history:
        items.append({"role": "user", "content": turn.prompt})
        for call in turn.answer.tool_calls if with_tools else ():
            call_id = f"call{len(items):05}"
            arguments = call.arguments if is_object(call.arguments) else "{}"
            asked = {"type": "function_call", "name": call.tool, "arguments": arguments}
            answered = {"type": "function_call_output", "output": call.output or "(nothing)"}
            items += [asked | {"call_id": call_id}, answered | {"call_id": call_id}]
        reply = f"{turn.answer.text} [stopped by the user]" if turn.stopped else turn.answer.text
        items.append({"role": "assistant", "content": reply.strip() or "(nothing)"})
    return [*items, {"role": "user", "content": text}]


def answer_of(result: agents.RunResult | agents.RunResultStreaming, speech: Speech) -> Answer:
    outputs: dict[str, str] = {}
    calls: dict[str, tuple[str, str]] = {}  # a call that needs approval occurs twice
    last, was_heard = "", bool(speech.text)
    for item in result.new_items:
        # openai's types take an item of a kind that they don't know for a message without content.
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
    if not last.strip() or result.final_output is None:  # None if an extension has cut it short
        raise Unavailable("The model has given no answer; try again")
    limit = min(_MAX_OUTPUT, _MAX_OUTPUTS // max(1, len(calls)))
    shortened = {
        call_id: output if len(output) <= limit else f"{output[:limit]} [shortened]"
        for call_id, output in outputs.items()
    }
    made = [ToolCall(*call, shortened.get(call_id, "")) for call_id, call in calls.items()]
    speech.count(sum(len(call.arguments + call.output) for call in made))
    return Answer(speech.text, tuple(made))
