"""No host can make a chat use more memory than a reply needs."""

import json

import pytest

from daca_shared.domain import Failed
from tests.hosts.conftest import Talking
from tests.odd_host import EVENTS, JSON, Answer, Reply, calling, delta, either

MEGABYTE = 2**20
LETTERS = b"x" * 65536
START = b'{"choices": [{"message": {"content": "'


def piece(**fields: str) -> bytes:
    return f"data: {json.dumps(delta(**fields))}\n\n".encode()


ENDLESS = [
    Reply(START, JSON, more=LETTERS),
    Reply(b"", JSON, more=b"\n" + b" " * 65536),
    Reply(b"data: " + START, EVENTS, more=LETTERS),
    Reply(b"", EVENTS, more=LETTERS),
    Reply(b"", EVENTS, more=b": " + LETTERS + b"\n\n"),
    Reply(b"", EVENTS, more=piece(reasoning_content="hm" * 32768)),
    Reply(b"", EVENTS, more=piece(content=" " * 65536)),
    Reply(b"", EVENTS, more=piece(content="word " * 9999)),
]


@pytest.mark.parametrize("answer", ENDLESS, ids=range(8))
async def test_an_endless_answer_is_an_error(talking: Talking, answer: Reply) -> None:
    async with talking(answer) as talk:
        with pytest.raises(Failed, match=r"larger than|longer than"):
            await talk.say()
        # More than we read, as it includes what fills the buffers at both ends.
        assert talk.host.sent < 32 * MEGABYTE
        assert await talk.turns() == []


async def test_an_endless_error_is_an_error(talking: Talking) -> None:
    async with talking(Reply(b"no such thing", JSON, 400, LETTERS)) as talk:
        with pytest.raises(Failed, match="refused"):
            await talk.say()
        assert talk.host.sent < 16 * MEGABYTE


@pytest.mark.parametrize(
    "answer",
    [
        either(content="x" * 1001),
        either(refusal="x" * 1001),
        calling("one", json.dumps({"a": "x" * 1001})),
    ],
    ids=["text", "refusal", "arguments"],
)
async def test_a_replys_length_is_limited(talking: Talking, answer: Answer) -> None:
    async with talking(either(content="x" * 1000), max_reply_length=1000) as talk:
        assert await talk.say() == "x" * 1000
        talk.host.answers = [answer, either(content="done")]
        with pytest.raises(Failed, match="longer than 1000 characters"):
            await talk.say()
        assert len(await talk.turns()) == 1


async def test_a_long_reply_is_whole(talking: Talking) -> None:
    async with talking(either(content="ü" * 99_000)) as talk:
        assert await talk.say() == "ü" * 99_000
