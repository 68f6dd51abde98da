"""Which chats are admitted over gRPC, and which are refused."""

import asyncio

import pytest
from grpc import StatusCode, aio

from daca.chat.v1 import chat_pb2 as pb
from daca.chat.v1 import chat_pb2_grpc as pb_grpc
from tests.fakes import FOREVER_S, FakeChat, eventually, watched
from tests.grpc.refusals import Refused, refusal

type Stub = pb_grpc.ChatServiceAsyncStub  # exists only for the type checker
BURST = 256


@pytest.fixture
def stub(chat_channel: aio.Channel) -> Stub:
    return pb_grpc.ChatServiceStub(chat_channel)


def request() -> pb.ChatRequest:
    return pb.ChatRequest(user_id="alice", text="hi")


def stream_request() -> pb.ChatStreamRequest:
    return pb.ChatStreamRequest(user_id="alice", text="hi")


async def test_an_idle_service_answers_all_of_a_large_burst(stub: Stub, chat: FakeChat) -> None:
    async with watched(chat.admission):
        replies = await asyncio.gather(*(stub.Chat(request()) for _ in range(BURST)))
    assert {reply.reply for reply in replies} == {"You said: hi"}
    assert (len(chat.turns.kept), chat.admission.turned_away) == (BURST, 0)


async def test_an_idle_service_streams_to_all_of_a_large_burst(stub: Stub, chat: FakeChat) -> None:
    async def read() -> str:
        return [event async for event in stub.ChatStream(stream_request())][-1].completed.reply

    async with watched(chat.admission):
        replies = await asyncio.gather(*(read() for _ in range(BURST)))
    assert {*replies} == {"You said: hi"}
    assert (len(chat.turns.kept), chat.admission.turned_away) == (BURST, 0)


@pytest.mark.parametrize("streamed", [True, False])
async def test_an_excess_chat_is_refused_and_not_counted(
    stub: Stub, chat: FakeChat, streamed: bool
) -> None:
    async def ask() -> Refused:
        if streamed:
            return await refusal(anext(aiter(stub.ChatStream(stream_request()))))
        return await refusal(stub.Chat(request()))

    chat.admission.chats = BURST
    chat.admission.note_lag(1)
    refused = await ask()
    assert (refused.code, refused.reasons) == (StatusCode.UNAVAILABLE, ["daca/OVERLOADED"])
    assert refused.retry_after_s == 1
    assert (chat.turns.kept, chat.admission.turned_away) == ([], 1)
    # Reading the history doesn't count as load.
    await stub.ListConversations(pb.ListConversationsRequest(user_id="alice"))
    for _ in range(20):
        chat.admission.note_lag(0)
    assert (await stub.Chat(request())).reply == "You said: hi"


async def test_a_chat_takes_a_place_until_it_ends(stub: Stub, chat: FakeChat) -> None:
    chat.agent.delay_s = FOREVER_S
    calls = [stub.Chat(request()), stub.ChatStream(stream_request())]
    await eventually(lambda: chat.admission.chats == 2)
    for call in calls:
        call.cancel()
    await eventually(lambda: chat.admission.chats == 0)
    chat.agent.delay_s, chat.agent.failure = 0, RuntimeError("broken")
    await refusal(stub.Chat(request()))
    assert chat.admission.chats == 0
