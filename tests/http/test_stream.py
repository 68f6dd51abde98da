import json
from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest

from chat_service.chat.messages import ToolCall
from daca_shared.calls.errors import INTERNAL_MESSAGE
from daca_shared.domain import LimitReached, Unavailable
from tests.fakes import FOREVER_S, FakeChat, eventually
from tests.http.gateways import body, gateway_app, served
from tests.scripted import ScriptedAgent


@pytest.fixture
async def http(chat: FakeChat) -> AsyncIterator[httpx2.AsyncClient]:
    """A client of a real server, as only that notices when a reader disconnects."""
    async with served(gateway_app(chat)) as client:
        yield client


async def events_of(response: httpx2.Response) -> AsyncIterator[tuple[str, Any]]:
    event = ""
    async for line in response.aiter_lines():
        field, _, value = line.partition(": ")
        if field == "event":
            event = value
        elif field == "data":
            yield event, json.loads(value)


async def test_deltas_and_then_the_answer_of_chat(http: httpx2.AsyncClient) -> None:
    async with http.stream("POST", "/chat/stream", json=body()) as response:
        assert response.status_code == 200
        assert response.headers["content-type"].startswith("text/event-stream")
        *deltas, (kind, whole) = [event async for event in events_of(response)]
    assert deltas == [("delta", {"text": text}) for text in ("You ", "said: ", "hi")]
    assert kind == "completed"
    answer = (await http.post("/chat/", json=body())).json()
    assert whole.keys() == answer.keys()
    assert whole["reply"] == answer["reply"]


async def test_html_and_tool_calls_are_sent_on_request(
    http: httpx2.AsyncClient, chat: FakeChat
) -> None:
    chat.conversation.agent = ScriptedAgent(ToolCall("look", "{}"), "*Hi*", 0.01)
    kinds = {}
    for path in ("/chat/stream", "/chat/stream?rich=true"):
        async with http.stream("POST", path, json=body()) as response:
            kinds[path] = [event async for event in events_of(response)]
    plain, rich = kinds.values()
    assert [kind for kind, _ in plain] == ["delta", "completed"]
    assert rich[:-1] == [
        ("tool", {"name": "look"}),
        ("delta", {"text": "*Hi*"}),
        ("html", {"finished": "", "open": "<p><em>Hi</em></p>\n"}),
    ]
    assert rich[-1][1]["tools"] == ["look"]
    query = {"user_id": "alice"}
    session = rich[-1][1]["metadata"]["session_id"]
    (kept,) = (await http.get(f"/conversations/{session}", params=query)).json()["messages"]
    assert kept["tools"] == ["look"]


@pytest.mark.parametrize(
    ("failure", "error"),
    [
        (
            Unavailable("away", code="MODEL_UNAVAILABLE"),
            {"status": 503, "detail": "away", "code": "MODEL_UNAVAILABLE"},
        ),
        (LimitReached("slow down", retry_after_s=6.3), {"status": 429, "retry_after": 7}),
        (
            RuntimeError("a secret"),
            {"status": 500, "detail": INTERNAL_MESSAGE, "code": "INTERNAL"},
        ),
    ],
)
async def test_a_model_that_fails_in_a_stream_gives_one_error_event(
    http: httpx2.AsyncClient, chat: FakeChat, failure: Exception, error: dict[str, Any]
) -> None:
    chat.agent.failure = failure
    async with http.stream("POST", "/chat/stream", json=body()) as response:
        events = [event async for event in events_of(response)]
    assert [kind for kind, _ in events] == ["delta", "delta", "error"]
    assert events[-1][1].items() >= error.items()


@pytest.mark.parametrize(
    ("sent", "status"),
    [(body(text=" "), 400), (body(text="x" * 101), 400), ({"text": "hi"}, 422)],
    ids=["blank", "too long", "no user"],
)
async def test_bad_input_is_refused_before_the_stream_begins(
    http: httpx2.AsyncClient, chat: FakeChat, sent: dict[str, Any], status: int
) -> None:
    response = await http.post("/chat/stream", json=sent)
    assert response.status_code == status
    assert chat.turns.kept == []


PATHS = ("/chat/stream", "/chat/stream?rich=true")


@pytest.mark.parametrize("path", PATHS)
async def test_a_disconnected_streams_text_is_in_the_history(
    path: str, http: httpx2.AsyncClient, chat: FakeChat
) -> None:
    chat.agent.delay_s = FOREVER_S
    async with http.stream("POST", path, json=body()) as response:
        assert await anext(events_of(response)) == ("delta", {"text": "You "})
    await eventually(lambda: chat.turns.kept)
    (turn,) = chat.turns.kept
    assert turn.stopped
    assert turn.answer.text == "You said: "


@pytest.mark.parametrize("path", PATHS)
async def test_a_disconnect_stops_a_model_that_is_faster_than_the_reader(
    path: str, http: httpx2.AsyncClient, chat: FakeChat
) -> None:
    chat.agent.babbles = True
    for _ in range(5):
        async with http.stream("POST", path, json=body()) as response:
            assert await anext(events_of(response)) == ("delta", {"text": "You "})
            assert len(chat.conversation.streams) == 1
        await eventually(lambda: not chat.conversation.streams)


async def test_a_disconnect_is_no_failure(
    http: httpx2.AsyncClient, chat: FakeChat, caplog: pytest.LogCaptureFixture
) -> None:
    chat.agent.babbles = True
    for _ in range(20):
        async with http.stream("POST", "/chat/stream", json=body()) as response:
            await anext(response.aiter_lines())
    await eventually(lambda: not chat.conversation.streams)
    assert [record.getMessage() for record in caplog.records if record.levelname == "ERROR"] == []
