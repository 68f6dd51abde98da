"""Turns answers of compatible servers into what OpenAI would send (oddities: docs/models.md)."""

import codecs
import itertools
import json
import re
from operator import itemgetter
from typing import Any
from uuid import uuid4

from chat_service.chat.speech import clean
from chat_service.hosts.refusals import status_error

# By what a finish reason mentions, in this order. All others mean that the answer is complete.
_FINISHES = {
    "error": r"error(?!_(toxic|limit))|abort|cancel|time(d_)?out|insufficient|malformed|fail"
             "|overload|function_call_filter|unexpected_tool|too_many_tool|incomplete|not_finished",
    "length": "length|max|limit|context|repetition",
    "content_filter": "filter|safety|sensitive|recitation|blocklist|spii|prohibited|guardrail|toxic"
                      "|refusal|armor",
}  # fmt: skip
_NO_REASON, _BAD_REQUEST = "none given", 400
_CUT = {"length": "the model's limit", "content_filter": "a filter of the model's host"}
_NO_NAME = re.compile("[^a-zA-Z0-9_-]")
# Calls that agree in all of these are one call, which the host has repeated.
_key = itemgetter("id", "name", "arguments")


class AnswerReader:
    """Reads one answer line by line: a stream of events, or a JSON document as a single piece."""

    def __init__(self, taken: set[str], *, with_thoughts: bool) -> None:
        self._texts = ["content", "refusal", *(["reasoning_content"] if with_thoughts else [])]
        self._taken = taken
        """Ids of tool calls in the request, as some hosts use the same id again and again."""
        self.is_over = False
        """Whether there is nothing more to read."""
        self.is_whole = False
        """Whether the host has said that the answer is complete."""
        self._json, self._data = bytearray(), bytearray()
        self._calls: list[dict[str, Any]] = []
        # Some hosts give each call a finish reason, and some then repeat the earlier calls.
        self._indexes, self._passed_on = itertools.count(), set[tuple[str, ...]]()
        self._has_text, self._refuses = False, False
        self._thoughts: str | None = ""
        """The text held back while it is, or may be, tagged `<think>`; None once it can't be."""

    def read(self, line: bytes) -> dict[str, Any] | None:
        """The piece that this line completes, if any. `b""`, without a line feed, ends the input.
        Raises `APIStatusError` for an error, and `ValueError` or `AttributeError` for nonsense."""
        self.is_over = not line
        line = line.strip().removeprefix(codecs.BOM_UTF8)
        if self._json or line.startswith((b"{", b"[")):
            self._json += line
            return self._piece(self._json) if self.is_over else None
        if line.startswith(b"data:"):
            self._data += line.removeprefix(b"data:").strip()
        # An event ends with an empty line, which some hosts leave out after the last event.
        if line and self._data != b"[DONE]":
            return None
        data, self._data = self._data, bytearray()
        if data != b"[DONE]":
            return self._piece(data) if data else None
        self.is_over = True
        has_ended = self.is_whole and not self._calls
        return None if has_ended else self._chunk(self._choice({}, _NO_REASON), None)

    def _piece(self, data: bytearray) -> dict[str, Any] | None:
        # A character may be split over two pieces, even in the middle of its bytes.
        event = json.loads(data.decode(errors="surrogateescape"))
        event = event[0] if isinstance(event, list) and event else event
        # We use the first choice. Azure's first piece, and one with only the usage, have none.
        choices = [c for c in event.get("choices") or [] if isinstance(c, dict)]
        choice = next((c for c in choices if str(c.get("index") or 0) == "0"), None)
        words = event.get("message") or event.get("detail")
        words = words or (event.get("base_resp") or {}).get("status_msg")  # MiniMax
        if error := event.get("error") or (choice.get("error") if choice else words):
            code = (error if isinstance(error, dict) else event).get("code")
            # What the model has said so far is only for its user.
            raise status_error(code, json.dumps(error if choice else event))
        usage = _usage(event.get("usage"))
        if choice is None:
            return self._chunk(None, usage) if usage else None
        message, finish = choice.get("delta"), choice.get("finish_reason")
        # Some hosts send both `delta` and `message`, which in a stream is all the text so far.
        if message is None or (self._json and choice.get("message")):
            message = choice.get("message") or {"content": choice.get("text")}
            finish = finish or (_NO_REASON if "message" in choice else None)
        # Gemini's reason may have a detail after a colon.
        reason = str(finish or "").lower().removeprefix("null").partition(":")[0]
        return self._chunk(self._choice(message, reason), usage)

    def _choice(self, message: dict[str, Any], reason: str) -> dict[str, Any]:
        finish = _finish(reason) if reason else None
        if finish == "error":
            raise status_error(None, f"finish_reason {reason}")
        delta: dict[str, Any] = {name: text_in(message.get(name)) or None for name in self._texts}
        delta["content"] = self._visible_text(delta["content"] or "", is_last=bool(reason)) or None
        known, legacy = [*self._calls], message.get("function_call")
        for call in message.get("tool_calls") or ([{"function": legacy}] if legacy else []):
            self._note_call(call, known)
        self._has_text = self._has_text or bool(delta["content"])
        self._refuses = self._refuses or bool(delta["refusal"])
        if finish:
            is_cut = finish in _CUT and not self.is_whole
            self.is_whole = True
            may_be_cut = finish in _CUT or reason == _NO_REASON
            are_whole = all(is_object(call["arguments"]) for call in self._calls)
            if self._calls and (is_cut or (may_be_cut and not are_whole)):
                # Without all of its arguments, a tool might do anything.
                raise ValueError("a tool call is cut short")
            # Some hosts repeat complete calls with another finish reason.
            new = [c for c in self._calls if not c["id"] or _key(c) not in self._passed_on]
            self._passed_on |= {*map(_key, new)}
            delta["tool_calls"], self._calls = [*map(self._acceptable, new)], []
            if is_cut and self._has_text:
                delta["content"] = f"{delta['content'] or ''}\n\n[cut short by {_CUT[finish]}]"
            elif is_cut and finish == "content_filter" and not self._refuses:
                # Otherwise the SDK makes up a reply that says so.
                raise status_error(_BAD_REQUEST, finish)
        return {"index": 0, "delta": delta, "finish_reason": finish}

    def _visible_text(self, text: str, *, is_last: bool) -> str:
        """The text to show now, without the thoughts (`<think>`) with which some models begin."""
        if self._thoughts is None:
            return text
        text, self._thoughts = (self._thoughts + text).lstrip(), None
        begin, rest = text[:7], text[7:]
        if not "<think>".startswith(begin) or (is_last and begin != "<think>"):
            return text
        _, end, shown = rest.partition("</think>")
        self._thoughts = None if end else begin + rest[-7:]  # may hold half of the end tag
        return shown

    def _note_call(self, piece: dict[str, Any], known: list[dict[str, Any]]) -> None:
        """Note a new tool call, or what this piece adds to a call that was `known` before it."""
        function = piece.get("function") or piece
        name, arguments = text_in(function.get("name")), function.get("arguments") or ""
        call_id, index = clean(text_in(piece.get("id"))), piece.get("index") or 0
        # Some hosts number all calls 0, some send no ids or new ones each time, some repeat id and
        # name each time.
        begun = known if name else self._calls  # a piece without a name continues a call
        same = [c for c in begun if call_id and c["id"] == call_id] or begun
        call = next((c for c in reversed(same) if _goes_on(c, call_id, name, index)), None)
        if call is None and not (name or arguments):
            return
        if call is None:
            call = {"id": "", "name": "", "arguments": "", "index": index}
            self._calls.append(call)
        if extra := piece.get("extra_content"):
            call["extra_content"] = extra  # Gemini requires it in later requests
        call["id"] = call["id"] or call_id
        call["name"] = call["name"] or name
        if call["arguments"] == "{}" and arguments:
            call["arguments"] = ""  # some gateways to Anthropic begin with it
        if not is_object(call["arguments"]):  # else the host repeats it
            call["arguments"] += arguments if isinstance(arguments, str) else json.dumps(arguments)

    def _acceptable(self, call: dict[str, Any]) -> dict[str, Any]:
        """The call in a form that every host accepts in a later request."""
        if not call["id"] or call["id"] in self._taken:
            call["id"] = uuid4().hex[:9]
        self._taken.add(call["id"])
        arguments = clean(call["arguments"]) if is_object(call["arguments"]) else "{}"
        name = _NO_NAME.sub("_", call["name"])[:64] or "unknown"
        function = {"name": name, "arguments": arguments}
        return call | {"index": next(self._indexes), "type": "function", "function": function}

    def _chunk(self, choice: dict[str, Any] | None, usage: Any) -> dict[str, Any]:
        chunk = {"id": "", "object": "chat.completion.chunk", "created": 0, "model": ""}
        return chunk | {"choices": [choice] if choice else [], "usage": usage}


def _goes_on(call: dict[str, Any], call_id: str, name: str, index: Any) -> bool:
    """Whether a piece with this id, name and index continues `call`."""
    is_same = call_id == call["id"] != ""
    if not name or not call["name"]:
        return is_same or bool(index == call["index"])
    is_open = is_same or not ((call_id and call["id"]) or is_object(call["arguments"]))
    return bool((name, index) == (call["name"], call["index"])) and is_open


def is_object(text: str) -> bool:
    try:
        # `int` refuses NaN, which only Python takes for JSON.
        value = json.loads(text, parse_constant=int) if text.rstrip().endswith("}") else None
        return isinstance(value, dict)
    except (ValueError, RecursionError):
        return False


def text_in(value: Any) -> str:
    """The text in a content field, which may be a list of parts, without a model's thoughts."""
    if isinstance(value, list):
        return "".join(map(text_in, value))
    if isinstance(value, dict):
        if value.get("thought") or str(value.get("type")).startswith(("reason", "think")):
            return ""
        return text_in(value.get("text") or value.get("refusal") or value.get("value"))
    return value if isinstance(value, str) else ""


def _finish(reason: str) -> str:
    kinds = (kind for kind, words in _FINISHES.items() if re.search(words, reason))
    return next(kinds, "stop")


def _usage(counts: Any) -> dict[str, int] | None:
    usage = {}
    for name in ("prompt_tokens", "completion_tokens", "total_tokens"):
        count = counts.get(name) if isinstance(counts, dict) else None
        usage[name] = int(count) if isinstance(count, int | float) and 0 <= count < 2**53 else 0
    return usage if any(usage.values()) else None
