"""A message that is sent again is answered and counted once, on whatever route."""

import json
from typing import Any
from uuid import UUID, uuid4

import httpx2
import pytest

from tests.fakes import FakeChat
from tests.http.gateways import body

PATHS = pytest.mark.parametrize("path", ["/chat/", "/chat/stream"])


def events(answer: httpx2.Response) -> list[tuple[str, Any]]:
    blocks = [block.split("\n") for block in answer.text.strip().split("\n\n")]
    return [
        (event.removeprefix("event: "), json.loads(data.removeprefix("data: ")))
        for event, data in blocks
    ]


async def ask(http: httpx2.AsyncClient, path: str, key: str, **fields: Any) -> dict[str, Any]:
    """The whole answer, streamed or not."""
    answer = await http.post(path, json=body(**fields), headers={"idempotency-key": key})
    assert answer.status_code == 200
    whole: dict[str, Any] = answer.json() if path == "/chat/" else events(answer)[-1][1]
    return whole


async def test_the_same_message_has_the_same_answer(
    http: httpx2.AsyncClient, chat: FakeChat
) -> None:
    sent = body(message_id=str(uuid4()), tags=["a"])
    first, second = [(await http.post("/chat/", json=sent)).json() for _ in range(2)]
    assert first == second
    assert (len(chat.turns.kept), len(chat.agent.counts)) == (1, 1)


async def test_a_repeated_stream_has_the_same_answer_in_one_piece(
    http: httpx2.AsyncClient, chat: FakeChat
) -> None:
    sent = body(message_id=str(uuid4()))
    first, second = [events(await http.post("/chat/stream", json=sent)) for _ in range(2)]
    (delta, text), completed = second
    assert (delta, text) == ("delta", {"text": "You said: hi"})
    assert completed == first[-1]
    assert (await http.post("/chat/", json=sent)).json() == completed[1]
    assert (len(chat.turns.kept), len(chat.agent.counts)) == (1, 1)


@PATHS
@pytest.mark.parametrize("form", ["{}", '"{}"'])
async def test_a_key_that_is_a_uuid_is_the_messages_id(
    http: httpx2.AsyncClient, chat: FakeChat, path: str, form: str
) -> None:
    key = str(uuid4())
    first, second = [await ask(http, path, form.format(key)) for _ in range(2)]
    assert first == second
    assert first["message_id"] == key
    assert len(chat.turns.kept) == 1


@PATHS
@pytest.mark.parametrize("key", ["order-17", '"order-17"', "x" * 255, "a b, c; d=e"])
async def test_any_other_key_always_yields_the_same_id(
    http: httpx2.AsyncClient, chat: FakeChat, path: str, key: str
) -> None:
    first, second = [await ask(http, path, key) for _ in range(2)]
    assert first == second
    assert UUID(first["message_id"])
    other = await ask(http, path, key[:-1] + "9")
    assert other["message_id"] != first["message_id"]
    assert len(chat.turns.kept) == 2


async def test_a_key_in_quotes_is_the_key_without_them(http: httpx2.AsyncClient) -> None:
    assert await ask(http, "/chat/", "order-17") == await ask(http, "/chat/", '"order-17"')


async def test_the_message_id_in_the_body_overrides_the_key(http: httpx2.AsyncClient) -> None:
    message_id = str(uuid4())
    answer = await ask(http, "/chat/", str(uuid4()), message_id=message_id)
    assert answer["message_id"] == message_id


@pytest.mark.parametrize("key", ["", '""', '" "'])
async def test_an_empty_key_counts_as_none(http: httpx2.AsyncClient, key: str) -> None:
    first, second = [await ask(http, "/chat/", key) for _ in range(2)]
    assert first["message_id"] != second["message_id"]


async def test_two_users_may_have_chosen_the_same_key(
    http: httpx2.AsyncClient, chat: FakeChat
) -> None:
    alices = await ask(http, "/chat/", "order-17", text="mine")
    bobs = await ask(http, "/chat/", "order-17", text="his", user_id="bob")
    assert (alices["reply"], bobs["reply"]) == ("You said: mine", "You said: his")
    assert len(chat.turns.kept) == 2


@PATHS
async def test_a_key_that_is_too_long_is_refused_by_name(
    http: httpx2.AsyncClient, chat: FakeChat, path: str
) -> None:
    headers = {"idempotency-key": "x" * 256}
    answer = await http.post(path, json=body(), headers=headers)
    assert answer.status_code == 422
    assert "idempotency-key" in answer.text
    assert chat.turns.kept == []


async def test_a_message_that_failed_may_be_sent_again(
    http: httpx2.AsyncClient, chat: FakeChat
) -> None:
    sent = body(message_id=str(uuid4()))
    chat.agent.failure = RuntimeError("broken")
    assert (await http.post("/chat/", json=sent)).status_code == 500
    chat.agent.failure = None
    assert (await http.post("/chat/", json=sent)).status_code == 200
    assert len(chat.turns.kept) == 1
