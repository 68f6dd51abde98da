"""A reply is text, or an error. Whatever the text, it can be kept, shown and sent back."""

import asyncio
import json
from typing import Any

import pytest

from daca_shared.domain import DomainError, InvalidInput, Unavailable
from lab.postgres import Place
from tests.hosts.conftest import Talking
from tests.odd_host import Reply, calling, delta, either, error, events, message, name_of

DONE = b"data: [DONE]\n\n"
STOP = delta("stop")


def raw(text: bytes) -> bytes:
    """A piece with text that no JSON encoder would write."""
    return b'data: {"choices": [{"delta": {"content": "' + text + b'"}}]}\n\n'


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("a \ud83d b", "a \ufffd b"),
        ("a \ude00", "a \ufffd"),
        ("\ud83d\ud83d\ude00", "\ufffd😀"),
        ("NUL \0", "NUL \ufffd"),
        ("😀 ü \u2028 \x1b0", "😀 ü \u2028 \x1b0"),
    ],
)
async def test_any_text_is_kept_as_text(
    talking: Talking, place: Place, text: str, kept: str
) -> None:
    async with talking(either(content=text), place=place) as talk:
        assert await talk.say() == kept
        assert await talk.say("again") == kept
        assert [turn.answer.text for turn in await talk.turns()] == [kept, kept]
        # Hosts also get it back as text.
        assert talk.host.requests[-1]["messages"][2]["content"] == kept


@pytest.mark.parametrize(
    "pieces",
    [
        [delta(content="a\ud83d"), delta(content="\ude00b")],
        [raw(b"a\\ud83d"), raw(b"\\ude00b")],
        [raw(b"a\xf0\x9f"), raw(b"\x98\x80b")],
        [raw(b"a\xf0"), raw(b"\x9f"), delta(content=""), raw(b"\x98"), raw(b"\x80"), raw(b"b")],
    ],
    ids=["surrogates", "escapes", "bytes", "byte by byte"],
)
async def test_a_split_character_is_joined(talking: Talking, pieces: list[object]) -> None:
    async with talking(events(*pieces, STOP)) as talk:
        assert await talk.say() == "a😀b"
        assert all(piece.encode() for piece in talk.deltas)


async def test_a_long_reply_in_another_encoding_holds_nobody_up(talking: Talking) -> None:
    # It would take minutes if the work grew with the square of the length.
    async with asyncio.timeout(20):
        async with talking(events(raw("网".encode("gbk") * 30_000 + b"."), STOP)) as talk:
            assert "\ufffd" in await talk.say()


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("<think>hm < 1</thin </think>\n\nhi", "hi"),
        ("\n<think>\n</think>hi <think>", "hi <think>"),
        ("<thinking> hi", "<thinking> hi"),
        ("<", "<"),
    ],
)
@pytest.mark.parametrize("size", [1, 99])
async def test_thoughts_before_a_reply_are_not_shown(
    talking: Talking, text: str, shown: str, size: int
) -> None:
    pieces = (delta(content=text[n : n + size]) for n in range(0, len(text), size))
    async with talking(events(*pieces, STOP)) as talk:
        assert await talk.say() == shown


async def test_half_a_character_in_a_tool_call_is_not_passed_on(
    talking: Talking, place: Place
) -> None:
    call = calling(arguments='{"a": "\ud83d"}', id="i\ud83d")
    async with talking(call, either(content="done"), place=place) as talk:
        assert await talk.say() == "done"
        (turn,) = await talk.turns()
        assert [call.arguments for call in turn.answer.tool_calls] == ['{"a": "\ufffd"}']
        assert "\ud83d" not in str(talk.host.requests)


# OpenRouter's choices may have errors of their own.
FAILED: dict[str, Any] = {"error": {"code": 502, "message": "gone"}, "finish_reason": None}
ALL, STOPPED = {"role": "assistant", "content": "whole"}, {"finish_reason": "stop"}
# Perplexity's pieces have both a delta and a message.
BOTH = delta(content="cut")
BOTH["choices"][0]["message"] = {"role": "assistant", "content": "cut"}


@pytest.mark.parametrize(
    "answer",
    [
        events(delta("", content="cut")),
        events(delta("", content="cut"), delta("")),
        events(delta(content="cut")),
        events(delta("null", content="cut")),
        events(BOTH),
        events(delta("error", content="cut"), DONE),
        *(
            either(finish, content="cut")
            for finish in (
                "abort",
                "aborted",
                "canceled",
                "USER_CANCEL",
                "insufficient_system_resource",
                "malformed_model_output",
                "UNEXPECTED_TOOL_CALL",
                "not_finished",
            )
        ),
        Reply(json.dumps({"choices": [{"message": {"content": "cut"}} | FAILED]}).encode()),
        events(delta(content="cut"), {"choices": [{"delta": {}} | FAILED]}, DONE),
        events(delta("stop"), DONE),
        events(DONE),
        events(delta("stop", content=""), DONE),
        events(delta("stop", content="\n "), DONE),
        events(delta("tool_calls"), DONE),
        events(b": nothing but comments\n\n"),
        either(content=""),
        either(content=None),
        either(content=[]),
        either("tool_calls", content=None, tool_calls=[]),
        Reply(json.dumps(message("error", content="cut")).encode()),
        Reply(b'{"choices": [{"message": {"content": "cut'),
        Reply(b'{"choices": [{"delta": {"content": "cut"}}]}'),
        Reply(b"{}"),
        Reply(b'{"choices": null}'),
        Reply(b""),
        Reply(b"<html>Sign in</html>"),
        Reply(b'"text"'),
        error({"error": "in a 200"}, 200),
        error({"error": {"message": "in a 200", "code": "overloaded"}}, 200),
        error({"object": "error", "message": "in a 200"}, 200),
        error([{"error": {"message": "Gemini's"}}], 200),
        events(delta(content="a"), {"error": "a string"}),
        events(delta(content="a"), {"error": {"message": "an object", "code": 503}}),
        events(b'event: error\ndata: {"message": "without choices"}\n\n'),
        events(delta(content="a"), b"data: rubbish\n\n"),
    ],
    ids=name_of,
)
async def test_a_cut_or_empty_answer_is_no_reply(talking: Talking, answer: Reply) -> None:
    async with talking(answer, answer, either(content="well again")) as talk:
        talk.host.answers = [answer, answer]
        with pytest.raises(Unavailable):
            await talk.say()
        assert await talk.turns() == []
        talk.host.answers = [either(content="well again")]
        assert await talk.say() == "well again"


@pytest.mark.parametrize("finish", [
    "length", "MAX_TOKENS", "model_context_window_exceeded", "content_filter", "SAFETY", "SPII",
    "content_filter: RECITATION", "content_filtered", "guardrail_intervened", "time_limit",
    "ERROR_LIMIT", "ERROR_TOXIC", "IMAGE_RECITATION", "MODEL_ARMOR", "refusal", "repetition",
])  # fmt: skip
async def test_a_reply_that_its_host_truncates_says_so(talking: Talking, finish: str) -> None:
    async with talking(either(finish, content="Once upon a")) as talk:
        assert (await talk.say()).startswith("Once upon a\n\n[cut short by ")


async def test_a_finish_reason_that_is_sent_twice_counts_once(talking: Talking) -> None:
    last = delta("length", content="")
    async with talking(events(delta(content="Once upon a"), last, last)) as talk:
        assert await talk.say() == "Once upon a\n\n[cut short by the model's limit]"


@pytest.mark.parametrize("finish", [
    "STOP", "eos", "eos_token", "end_turn", "stop_sequence", "COMPLETE", "normal", "other",
])  # fmt: skip
async def test_a_reply_that_ends_by_itself_is_whole(talking: Talking, finish: str) -> None:
    async with talking(either(finish, content="Once upon a time")) as talk:
        assert await talk.say() == "Once upon a time"


@pytest.mark.parametrize("finish", ["length", "MAX_TOKENS"])
async def test_a_limit_before_the_first_word_is_an_error(talking: Talking, finish: str) -> None:
    async with talking(either(finish, content="", reasoning_content="hm")) as talk:
        with pytest.raises(DomainError):
            await talk.say()


@pytest.mark.parametrize("finish", ["content_filter", "SAFETY"])
async def test_a_filter_before_the_first_word_is_an_error(talking: Talking, finish: str) -> None:
    async with talking(either(finish, content="")) as talk:
        with pytest.raises(InvalidInput, match="refused by a filter"):
            await talk.say()
        assert await talk.turns() == []
        talk.host.answers = [either(finish, content="", refusal="I won't")]
        assert await talk.say() == "I won't"


@pytest.mark.parametrize(
    "answer",
    [
        Reply(json.dumps(message(content="whole")).encode()),
        Reply(json.dumps(message(None, content="whole"), indent=2).encode()),
        Reply(b"\xef\xbb\xbf\n " + json.dumps(message(content="whole")).encode(), "text/plain"),
        Reply(events(delta(content="who"), delta("stop", content="le")).body, "application/json"),
        Reply(events(delta(content="who"), delta(content="le"), DONE).body, "text/plain"),
        events(delta(content="whole"), {"choices": [{"delta": {}, "message": ALL} | STOPPED]}),
        events(b"\xef\xbb\xbfdata:" + json.dumps(delta("stop", content="whole")).encode()),
    ],
)
async def test_json_can_replace_a_stream_and_vice_versa(talking: Talking, answer: Reply) -> None:
    async with talking(answer) as talk:
        assert await talk.say() == "whole"
