"""Deviations of compatible servers from OpenAI's, which chats cope with."""

import json
from typing import Any

import pytest

from chat_service.hosts.answers import AnswerReader
from daca_shared.domain import DomainError, Failed
from tests.hosts.conftest import Talking
from tests.odd_host import Answer, Reply, delta, either, error, events, message, name_of

DONE = b"data: [DONE]\n\n"
STOP = delta("stop")
CLOCK = {"name": "get_current_time", "arguments": "{}"}


@pytest.mark.parametrize(
    "fields",
    [
        {"refusal": "I won't"},
        {"refusal": "I won't", "content": ""},
        {"content": [{"type": "refusal", "refusal": "I won't"}]},
    ],
)
async def test_a_models_refusal_is_the_reply(talking: Talking, fields: dict[str, Any]) -> None:
    async with talking(either(**fields)) as talk:
        assert await talk.say() == "I won't"


@pytest.mark.parametrize(
    "usage",
    [
        {"prompt_tokens": 1.5, "completion_tokens": None, "total_tokens": "many"},
        {"prompt_tokens": 1, "prompt_tokens_details": "none"},
        {"prompt_tokens": -1, "completion_tokens": 1e300, "total_tokens": True},
        {}, [], "none", 7, None,
    ],
    ids=name_of,
)  # fmt: skip
async def test_an_invalid_usage_loses_no_reply(talking: Talking, usage: Any) -> None:
    pieces = [delta(content="hi"), STOP | {"usage": usage}, {"choices": [], "usage": usage}]
    whole = Reply(json.dumps(message(content="hi") | {"usage": usage}).encode())
    for answer in (events(*pieces, DONE), events({"usage": usage}, *pieces), whole):
        async with talking(answer) as talk:
            assert await talk.say() == "hi"


@pytest.mark.parametrize(
    "content",
    [
        [{"type": "text", "text": "h"}, {"type": "text", "text": "i"}],
        ["h", "i"],
        {"type": "text", "text": {"value": "hi"}},
        [{"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}, {"text": "hi"}],
        [{"type": "reasoning", "text": "hm"}, {"type": "text", "text": "hi"}],
        [{"thought": True, "text": "hm"}, {"thought": False, "text": "hi"}],
        [{"type": "reasoning.text", "text": "hm"}, {"type": "thinking", "text": "hm"}, "hi"],
    ],
    ids=name_of,
)
async def test_content_may_come_in_parts(talking: Talking, content: Any) -> None:
    async with talking(either(content=content)) as talk:
        assert await talk.say() == "hi"


async def test_a_document_may_have_an_empty_delta_beside_its_message(talking: Talking) -> None:
    answer = message(content="hi")
    answer["choices"][0]["delta"] = {"role": "assistant", "content": ""}
    async with talking(Reply(json.dumps(answer).encode())) as talk:
        assert await talk.say() == "hi"


@pytest.mark.parametrize(
    "first",
    [
        {"choices": [], "prompt_filter_results": []},
        {"choices": None},
        {"choices": [{"delta": None}]},
        {"choices": [{"index": 1, "delta": {"content": "of another"}}]},
        {"choices": [{"delta": {"role": "assistant", "content": None, "tool_calls": None}}]},
        {"error": None, "choices": []},
        {"id": None, "object": 1, "created": "now", "model": None, "choices": []},
        {"choices": [{"delta": {"reasoning_content": "hm", "reasoning": {"a": 1}}}]},
        {"choices": [{"delta": {"audio": {}, "annotations": "x", "thinking_blocks": 1}}]},
        {"type": "ping"},
        b": keep-alive\r\n\r\n",
        b"data:\n\n",
        b"event: message\r\nid: 1\r\nretry: 5\r\n",
    ],
    ids=name_of,
)
@pytest.mark.parametrize("feed", [b"\n\n", b"\r\n\r\n"])
async def test_a_chunk_without_text_is_skipped(talking: Talking, first: Any, feed: bytes) -> None:
    pieces = [b"data:" + json.dumps(d).encode() + feed for d in (delta(content="hi"), STOP)]
    async with talking(events(first, *pieces)) as talk:
        assert await talk.say() == "hi"


@pytest.mark.parametrize("feed", ["\n", "\r\n"])
async def test_an_event_may_have_several_data_lines(talking: Talking, feed: str) -> None:
    pieces = [json.dumps(d, indent=1) for d in (delta(content="hel"), delta(content="lo"), STOP)]
    data = ("data: " + piece.replace("\n", f"{feed}data: ") + 2 * feed for piece in pieces)
    async with talking(events(*(event.encode() for event in data), DONE)) as talk:
        assert await talk.say() == "hello"


def test_a_stream_ends_with_the_line_of_its_last_event() -> None:
    reader = AnswerReader(set(), with_thoughts=False)
    for line in (b"data: " + json.dumps(STOP).encode(), b"\n", b"data: [DONE]\n"):
        assert not reader.is_over
        reader.read(line)
    assert reader.is_over


def without_stream_options(status: int, words: Any) -> Answer:
    def answer(request: dict[str, Any]) -> Reply:
        said = either(content="hi")
        assert not isinstance(said, Reply)
        return error(words, status) if "stream_options" in request else said(request)

    return answer


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (400, {"error": {"message": "Unrecognized request argument supplied: stream_options"}}),
        (422, {"detail": [{"type": "extra_forbidden", "loc": ["body", "stream_options"]}]}),
        (400, {"error": {"message": "stream_options for model `m` is not supported"}}),
        (400, {"error": "bad request"}),
    ],
)
async def test_stream_options_are_left_out_once_they_are_refused(
    talking: Talking, caplog: pytest.LogCaptureFixture, status: int, words: Any
) -> None:
    async with talking(without_stream_options(status, words)) as talk:
        assert [await talk.say(), await talk.say()] == ["hi", "hi"]
        assert len(talk.host.requests) == (2 if talk.way == "reply" else 3)
        assert caplog.text.count("stream_options") == (0 if talk.way == "reply" else 1)


async def test_a_request_that_is_refused_without_stream_options_too_is_refused(
    talking: Talking,
) -> None:
    async with talking(error("bad request"), either(content="hi")) as talk:
        talk.host.answers = [error("bad request")]
        with pytest.raises(Failed):
            await talk.say()
        talk.host.answers = [either(content="hi")]
        await talk.say()
        assert ("stream_options" in talk.host.requests[-1]) == (talk.way == "stream")


@pytest.mark.parametrize("code", ["tool_use_failed", "content_filter"])
async def test_a_refusal_for_a_known_reason_is_not_one_of_stream_options(
    talking: Talking, code: str
) -> None:
    async with talking(error({"error": {"code": code}})) as talk:
        with pytest.raises(DomainError):
            await talk.say()
        assert len(talk.host.requests) == 1
        talk.host.answers = [either(content="hi")]
        await talk.say()
        assert ("stream_options" in talk.host.requests[-1]) == (talk.way == "stream")
