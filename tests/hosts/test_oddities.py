"""What compatible servers do otherwise than OpenAI's, and a chat goes on all the same."""

import json
import re
from typing import Any

import pytest

from daca_shared.domain import Failed
from tests.hosts.conftest import Talking
from tests.odd_host import Answer, Reply, calling, delta, either, error, events, message, roles

DONE = b"data: [DONE]\n\n"
STOP = delta("stop")
CLOCK = {"name": "get_current_time", "arguments": "{}"}


def called(*calls: dict[str, Any]) -> dict[str, Any]:
    return delta(tool_calls=list(calls))


@pytest.mark.parametrize(
    "call",
    [
        calling(arguments={}),
        calling(arguments={"zone": "UTC"}),
        calling(arguments=None),
        calling(arguments=""),
        calling(arguments="not JSON"),
        calling(arguments="[1]"),
        either("stop", tool_calls=[{"id": "1", "function": {"name": "get_current_time"}}]),
        calling(id=""),
        calling(id=None),
        calling(id=7),
        calling(id=...),
        calling(index=...),
        calling(index=None),
        calling(type=...),
        calling(type=None),
        either("stop", tool_calls=[{"id": "1", "function": CLOCK}]),
        either("stop", content="", function_call=CLOCK),
        either("stop", tool_calls=[{"id": "1", **CLOCK}]),
        events(called({"index": 0, "id": "1", "function": CLOCK}), DONE),
        Reply(json.dumps(message(None, tool_calls=[{"function": CLOCK}])).encode()),
    ],
    ids=range(20),
)
async def test_a_call_of_a_tool_in_any_form_is_one(talking: Talking, call: Answer) -> None:
    async with talking(call, either(content="done")) as talk:
        assert await talk.say() == "done"
        ((turn,), shown) = await talk.turns(), talk.host.requests[-1]["messages"]
        (made,) = turn.answer.tool_calls
        assert re.match(r"\d{4}-", made.output)
        assert isinstance(json.loads(made.arguments), dict)
        # The host is shown the call as a call should be.
        assert roles(talk.host.requests[-1])[-2:] == ["assistant", "tool"]
        (asked,) = shown[-2]["tool_calls"]
        assert asked["id"] == shown[-1]["tool_call_id"] != ""
        assert asked["function"] == {"name": "get_current_time", "arguments": made.arguments}


def part(index: Any = 0, call_id: Any = None, name: Any = None, text: str = "") -> dict[str, Any]:
    call = {"index": index, "id": call_id, "function": {"name": name, "arguments": text}}
    return {key: value for key, value in call.items() if value is not ...}


TWO = part(1, "b", "two")


@pytest.mark.parametrize(
    "pieces",
    [
        [called(part(0, "a", "one", '{"a"'), part(1, "b", "two")), called(part(0, text=":1}"))],
        [called(part(0, "a", "one", '{"a":1}')), called(part(0, "b", "two", "{}"))],
        [called(part(0, "", "one", '{"a":1}')), called(part(0, "", "two", "{}"))],
        [called(part(..., ..., "one", '{"a":1}'), part(..., ..., "two"))],
        [
            called(part(0, "a", "one", '{"a"')),
            called(part(0, "a", "one", ":1}"), part(1, "b", "two")),
        ],
        [called(part(0, "a", "one", '{"a"')), called(part(0, "", "", ":1}"), part(1, "b", "two"))],
        [called(part(0, "same", "one", '{"a":1}'), part(1, "same", "two"))],
        [called(part(2, "a", "one", '{"a":1}')), called(part(5, "b", "two"))],
    ],
    ids=range(8),
)
async def test_two_calls_in_pieces_are_two(talking: Talking, pieces: list[Any]) -> None:
    async with talking(events(*pieces, STOP, DONE), either(content="done")) as talk:
        assert await talk.say() == "done"
        (turn,) = await talk.turns()
        made = [(call.tool, json.loads(call.arguments)) for call in turn.answer.tool_calls]
        assert made == [("one", {"a": 1}), ("two", {})]
        assert all(call.output for call in turn.answer.tool_calls)


async def test_ids_that_a_host_uses_again_are_told_apart(talking: Talking) -> None:
    answers = [calling("one"), calling(), calling("two"), either(content="done")]
    async with talking(*answers) as talk:
        assert await talk.say() == "done"
        (turn,) = await talk.turns()
        one, clock, two = turn.answer.tool_calls
        assert ("one" in one.output, "two" in two.output) == (True, True)
        assert re.match(r"\d{4}-", clock.output)
        shown = [
            m["tool_call_id"] for m in talk.host.requests[-1]["messages"] if "tool_call_id" in m
        ]
        assert len({*shown}) == 3


@pytest.mark.parametrize("name", ["look_up", "", None, "a b/c", "x" * 99])
async def test_a_tool_that_is_not_there_is_told_to_the_model(talking: Talking, name: Any) -> None:
    async with talking(calling(name), either(content="sorry")) as talk:
        assert await talk.say() == "sorry"
        *_, asked, told = talk.host.requests[-1]["messages"]
        assert "not found" in told["content"]
        assert re.fullmatch(r"[\w-]{1,64}", asked["tool_calls"][0]["function"]["name"])
        await talk.say("again")


@pytest.mark.parametrize(
    "fields",
    [
        {"refusal": "I won't"},
        {"refusal": "I won't", "content": ""},
        {"content": [{"type": "refusal", "refusal": "I won't"}]},
    ],
)
async def test_a_refusal_is_shown(talking: Talking, fields: dict[str, Any]) -> None:
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
    ids=str,
)  # fmt: skip
async def test_usage_is_no_reason_to_lose_a_reply(talking: Talking, usage: Any) -> None:
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
    ],
    ids=str,
)
async def test_content_may_come_in_parts(talking: Talking, content: Any) -> None:
    async with talking(either(content=content)) as talk:
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
    ids=str,
)
@pytest.mark.parametrize("feed", [b"\n\n", b"\r\n\r\n"])
async def test_a_piece_without_a_text_is_passed_over(
    talking: Talking, first: Any, feed: bytes
) -> None:
    pieces = [b"data:" + json.dumps(d).encode() + feed for d in (delta(content="hi"), STOP)]
    async with talking(events(first, *pieces)) as talk:
        assert await talk.say() == "hi"


async def test_what_is_said_before_a_call_stays(talking: Talking) -> None:
    before = either("tool_calls", content="Let me see.", tool_calls=[{"function": CLOCK}])
    async with talking(before, either(content="It is noon.")) as talk:
        assert await talk.say() == "Let me see.\n\nIt is noon."
        (turn,) = await talk.turns()
        assert turn.answer.text == "Let me see.\n\nIt is noon."


async def test_a_model_that_says_nothing_after_its_tool_has_given_no_reply(
    talking: Talking,
) -> None:
    before = either("tool_calls", content="Let me see.", tool_calls=[{"function": CLOCK}])
    async with talking(before, either(content="")) as talk:
        with pytest.raises(Exception, match="no answer"):
            await talk.say()
        assert await talk.turns() == []


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


async def test_what_is_refused_without_them_too_is_refused(talking: Talking) -> None:
    async with talking(error("bad request"), either(content="hi")) as talk:
        talk.host.answers = [error("bad request")]
        with pytest.raises(Failed):
            await talk.say()
        talk.host.answers = [either(content="hi")]
        await talk.say()
        assert ("stream_options" in talk.host.requests[-1]) == (talk.way == "stream")
