"""Answers of compatible servers, made what OpenAI's would be (their oddities: docs/models.md)."""

import codecs
import json
import re
from typing import Any
from uuid import uuid4

import httpx2
from openai import APIStatusError
from openai.types.chat import ChatCompletionChunk

from chat_service.chat.speech import clean

_LENGTH = ("length", "max_tokens", "max_output_tokens", "model_length")
_FILTER = ("content_filter", "safety", "sensitive", "recitation", "blocklist", "prohibited_content")
_ERROR = ("error", "network_error", "abort", "cancelled", "insufficient_system_resource")
# All others mean that all has been said.
_FINISHES = dict.fromkeys(_LENGTH, "length") | dict.fromkeys(_FILTER, "content_filter")
_CUT = {"length": "the model's limit", "content_filter": "a filter of the model's host"}
# By status; that of all statuses of servers has none of its own.
_ERRORS = {vars(kind).get("status_code"): kind for kind in APIStatusError.__subclasses__()}
_TOO_MANY, _SERVER_ERROR, _BAD_GATEWAY = 429, 500, 502
REQUEST = httpx2.Request("POST", "http://model")  # openai's errors insist on one
_NO_NAME = re.compile("[^a-zA-Z0-9_-]")


def status_error(status: Any, words: str, headers: Any = None) -> APIStatusError:
    """Openai's error for the status; for anything else, that of a rate limit or a bad gateway."""
    status = int(status) if str(status).isdecimal() else 0
    if status not in range(400, 600):
        status = _TOO_MANY if "rate_limit" in words else _BAD_GATEWAY
    kind = _ERRORS.get(status, _ERRORS[None] if status >= _SERVER_ERROR else APIStatusError)
    response = httpx2.Response(status, headers=headers, content=words, request=REQUEST)
    return kind(f"{status}: {words}", response=response, body=None)


class AnswerReader:
    """Reads one answer line by line: events, or JSON, which makes one piece, whatever was asked."""

    def __init__(self, taken: set[str], *, with_thoughts: bool) -> None:
        self._texts = ("content", "refusal", "reasoning_content")[: 3 if with_thoughts else 2]
        self._taken = taken
        """Ids of calls in the request: some hosts use theirs again and again."""
        self.is_over = False
        """Whether nothing more is to be read."""
        self.is_whole = False
        """Whether the host has said that this is all."""
        self._json, self._data = bytearray(), bytearray()
        self._calls: list[dict[str, Any]] = []
        self._has_text = False
        self._thoughts: str | None = ""

    def read(self, line: bytes) -> ChatCompletionChunk | None:
        """The piece in this line, if there is one; an empty line without a line feed is the end.
        Raises `APIStatusError` for an error, and `ValueError` for what makes no sense."""
        self.is_over = not line
        line = line.strip().removeprefix(codecs.BOM_UTF8)
        if self._json or line.startswith((b"{", b"[")):
            self._json += line
            return self._piece(self._json) if self.is_over else None
        data: bytes | bytearray = line.removeprefix(b"data:").strip()
        if data != line and (self._data or not data.endswith((b"}", b"]"))):
            self._data += data  # more of it may be in the next line
            return None
        if not line:
            data, self._data = self._data, bytearray()
        if data == line:
            return None  # a comment, or another field
        if data != b"[DONE]":
            return self._piece(data)
        self.is_over = True
        has_ended = self.is_whole and not self._calls
        return None if has_ended else self._chunk(self._choice({}, "stop"), None)

    def _piece(self, data: bytes | bytearray) -> ChatCompletionChunk | None:
        # A character may be split over two pieces, even byte by byte.
        event = json.loads(data.decode(errors="surrogateescape"))
        event = event[0] if isinstance(event, list) and event else event
        if not isinstance(event, dict):
            raise ValueError("the answer is no object")  # noqa: TRY004 - of the host's, not ours
        # Of several, the first is ours. Azure's first piece, and one with the usage, have none.
        choices = [c for c in event.get("choices") or [] if isinstance(c, dict)]
        choice = next((c for c in choices if str(c.get("index") or 0) == "0"), None)
        told = event.get("message") or event.get("detail")
        if error := event.get("error") or (choice is None and told):
            code = (error if isinstance(error, dict) else event).get("code")
            raise status_error(code, json.dumps(event))
        usage = _usage(event.get("usage"))
        if choice is None:
            return self._chunk(None, usage) if usage else None
        given, finish = choice.get("delta"), choice.get("finish_reason")
        if given is None:  # some have both, where the message is all that was said so far
            given = choice.get("message") or {"content": choice.get("text")}
            finish = finish or ("message" in choice and "stop")
        reason = str(finish or "").lower().removeprefix("null")
        if reason in _ERROR:
            raise status_error(None, json.dumps(event))
        return self._chunk(self._choice(given, reason), usage)

    def _choice(self, given: dict[str, Any], reason: str) -> dict[str, Any]:
        delta: dict[str, Any] = {name: text_in(given.get(name)) or None for name in self._texts}
        delta["content"] = self._said(delta["content"] or "", is_last=bool(reason)) or None
        known, legacy = [*self._calls], given.get("function_call")
        for call in given.get("tool_calls") or ([{"function": legacy}] if legacy else []):
            self._note(call, known)
        self._has_text = self._has_text or bool(delta["content"])
        finish = _FINISHES.get(reason, "stop") if reason else None
        if finish:
            is_cut, self.is_whole = finish in _CUT and not self.is_whole, True
            delta["tool_calls"], self._calls = [*map(self._call, enumerate(self._calls))], []
            if is_cut and self._has_text and not delta["tool_calls"]:
                delta["content"] = f"{delta['content'] or ''}\n\n[cut short by {_CUT[finish]}]"
        return {"index": 0, "delta": delta, "finish_reason": finish}

    def _said(self, text: str, *, is_last: bool) -> str:
        """The text, without the thoughts in tags that some models begin with."""
        if self._thoughts is None:
            return text
        text, self._thoughts = (self._thoughts + text).lstrip(), None
        begin, rest = text[:7], text[7:]
        if not "<think>".startswith(begin) or (is_last and begin != "<think>"):
            return text
        _, end, said = rest.partition("</think>")
        self._thoughts = None if end else begin + rest[-7:]
        return said

    def _note(self, given: dict[str, Any], known: list[dict[str, Any]]) -> None:
        """Note a call of a tool, or what one that was `known` before this piece goes on with."""
        function = given.get("function") or given
        name, arguments = text_in(function.get("name")), function.get("arguments") or ""
        call_id, index = clean(text_in(given.get("id"))), given.get("index") or 0
        for call in reversed(known):
            # Some number all calls 0, some send no ids, and some the id and name in each piece.
            if call_id and call["id"]:
                goes_on = call_id == call["id"]
            else:
                goes_on = index == call["index"] and not (name and is_object(call["arguments"]))
            if goes_on:
                break
        else:
            call = {"id": "", "name": "", "arguments": "", "index": index}
            call["extra_content"] = given.get("extra_content")  # Gemini wants its own back
            self._calls.append(call)
        call["id"] = call["id"] or call_id
        call["name"] = call["name"] or name
        if call["arguments"] == "{}" and arguments:
            call["arguments"] = ""  # gateways to Anthropic's models begin with it
        if not is_object(call["arguments"]):  # else it is sent again
            call["arguments"] += arguments if isinstance(arguments, str) else json.dumps(arguments)

    def _call(self, noted: tuple[int, dict[str, Any]]) -> dict[str, Any]:
        """A call that any host takes back."""
        index, call = noted
        if not call["id"] or call["id"] in self._taken:
            call["id"] = uuid4().hex[:9]
        self._taken.add(call["id"])
        arguments = clean(call["arguments"]) if is_object(call["arguments"]) else "{}"
        name = _NO_NAME.sub("_", call["name"])[:64] or "unknown"
        function = {"name": name, "arguments": arguments}
        return call | {"index": index, "type": "function", "function": function}

    def _chunk(self, choice: dict[str, Any] | None, usage: Any) -> ChatCompletionChunk:
        chunk = {"id": "", "object": "chat.completion.chunk", "created": 0, "model": ""}
        choices = [choice] if choice else []
        return ChatCompletionChunk.model_validate(chunk | {"choices": choices, "usage": usage})


def is_object(text: str) -> bool:
    """Whether it is an object in JSON."""
    try:
        return text.rstrip().endswith("}") and isinstance(json.loads(text), dict)
    except (ValueError, RecursionError):
        return False


def text_in(value: Any) -> str:
    """A text, which may come in parts; a model's thoughts among them are none."""
    if isinstance(value, list):
        return "".join(map(text_in, value))
    if isinstance(value, dict):
        if value.get("thought") or str(value.get("type")).startswith(("reason", "think")):
            return ""
        return text_in(value.get("text") or value.get("refusal") or value.get("value"))
    return value if isinstance(value, str) else ""


def _usage(given: Any) -> dict[str, int] | None:
    usage = {}
    for name in ("prompt_tokens", "completion_tokens", "total_tokens"):
        count = given.get(name) if isinstance(given, dict) else None
        usage[name] = int(count) if isinstance(count, int | float) and 0 <= count < 2**53 else 0
    return usage if any(usage.values()) else None
