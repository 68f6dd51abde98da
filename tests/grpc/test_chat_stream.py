from uuid import uuid4

import pytest
from grpc import StatusCode, aio

from chat_service.chat.messages import ToolCall
from daca.chat.v1 import chat_pb2 as pb
from daca.chat.v1 import chat_pb2_grpc as pb_grpc
from daca_shared.calls.errors import INTERNAL_MESSAGE
from daca_shared.domain import Unavailable
from tests.fakes import FOREVER_S, FakeChat, eventually
from tests.grpc.refusals import refusal
from tests.scripted import ScriptedAgent

type Stub = pb_grpc.ChatServiceAsyncStub  # exists only for the type checker


@pytest.fixture
def stub(chat_channel: aio.Channel) -> Stub:
    return pb_grpc.ChatServiceStub(chat_channel)


def request(text: str = "hi") -> pb.ChatStreamRequest:
    return pb.ChatStreamRequest(user_id="alice", text=text, tags=["a"])


async def test_the_reply_comes_in_deltas_and_then_as_a_whole(stub: Stub, chat: FakeChat) -> None:
    *deltas, last = [event async for event in stub.ChatStream(request())]
    assert [event.reply_delta for event in deltas] == ["You ", "said: ", "hi"]
    assert last.WhichOneof("event") == "completed"
    assert last.completed.reply == "You said: hi"
    assert (last.completed.message_count, list(last.completed.tags)) == (5, ["a"])
    assert len(chat.turns.kept) == 1


async def test_a_tool_call_is_no_delta(stub: Stub, chat: FakeChat) -> None:
    chat.conversation.agent = ScriptedAgent(ToolCall("look", "{}"), "Hi")
    *deltas, last = [event async for event in stub.ChatStream(request())]
    assert [event.reply_delta for event in deltas] == ["Hi"]
    assert last.completed.reply == "Hi"


@pytest.mark.parametrize(
    ("failure", "told"),
    [
        (Unavailable("away"), (StatusCode.UNAVAILABLE, "away", ["daca/UNAVAILABLE"])),
        (RuntimeError("secret"), (StatusCode.INTERNAL, INTERNAL_MESSAGE, ["daca/INTERNAL"])),
    ],
)
async def test_a_failure_is_a_status_after_the_deltas_and_never_an_event(
    stub: Stub, chat: FakeChat, failure: Exception, told: tuple[StatusCode, str, list[str]]
) -> None:
    chat.agent.failure = failure
    call = stub.ChatStream(request())
    events = aiter(call)
    assert [(await anext(events)).reply_delta for _ in range(2)] == ["You ", "said: "]
    refused = await refusal(anext(events))
    assert (refused.code, refused.details, refused.reasons) == told


async def test_blank_text_is_refused(stub: Stub, chat: FakeChat) -> None:
    with pytest.raises(aio.AioRpcError, match="Message text cannot be empty"):
        await anext(aiter(stub.ChatStream(request(" "))))
    assert chat.turns.kept == []


async def test_a_message_that_is_sent_again_has_the_same_answer_and_counts_once(
    stub: Stub, chat: FakeChat
) -> None:
    sent = pb.ChatStreamRequest(user_id="alice", text="hi", message_id=str(uuid4()))
    *_, first = [event async for event in stub.ChatStream(sent)]
    delta, second = [event async for event in stub.ChatStream(sent)]
    assert delta.reply_delta == first.completed.reply
    assert second == first
    assert (len(chat.turns.kept), len(chat.agent.counts)) == (1, 1)


async def test_a_cancelled_replys_text_is_in_the_history(stub: Stub, chat: FakeChat) -> None:
    chat.agent.delay_s = FOREVER_S
    call = stub.ChatStream(request())
    assert (await anext(aiter(call))).reply_delta == "You "
    call.cancel()
    await eventually(lambda: chat.turns.kept)
    (turn,) = chat.turns.kept
    assert turn.stopped
    assert turn.answer.text in ("You ", "You said: ")


async def test_cancelling_stops_a_model_that_is_faster_than_the_caller(
    stub: Stub, chat: FakeChat
) -> None:
    chat.agent.babbles = True
    for _ in range(5):
        call = stub.ChatStream(request())
        assert (await anext(aiter(call))).reply_delta == "You "
        assert len(chat.conversation.streams) == 1
        call.cancel()
        await eventually(lambda: not chat.conversation.streams)


async def test_the_callers_deadline_ends_the_stream(stub: Stub, chat: FakeChat) -> None:
    chat.agent.delay_s = FOREVER_S
    with pytest.raises(aio.AioRpcError) as raised:
        async for _ in stub.ChatStream(request(), timeout=0.3):
            pass
    assert raised.value.code() is StatusCode.DEADLINE_EXCEEDED
    await eventually(lambda: not chat.conversation.streams)
