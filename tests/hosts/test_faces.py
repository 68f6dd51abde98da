"""What clients see of an odd host: over HTTP, as server-sent events, and over gRPC."""

from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

import httpx2
import pytest
from grpc import aio

from chat_service.access.admission import Admission
from chat_service.agent.agent import ChatAgent
from chat_service.agent.models import choose_model
from chat_service.grpc.servicer import ChatServicer
from chat_service.settings import ChatSettings
from daca.chat.v1 import chat_pb2 as pb
from daca.chat.v1 import chat_pb2_grpc as pb_grpc
from daca_shared.calls.server import GrpcServer
from lab.postgres import Place
from tests.chats import chatting
from tests.fakes import FREE, FakeChat, channel_to, listening
from tests.grpc.refusals import Refused
from tests.hosts.conftest import closing
from tests.http.gateways import body, gateway
from tests.http.test_stream import events_of
from tests.odd_host import Answer, OddHost, Reply, delta, either, error, events, odd_host

SESSION = UUID("7f6f8f5e-0000-4000-8000-00000000000f")
TOO_LONG = {"error": {"code": "context_length_exceeded"}}


class Faces:
    """All APIs of one chat service."""

    def __init__(self, http: httpx2.AsyncClient, channel: aio.Channel, host: OddHost) -> None:
        self.http, self.stub, self.host = http, pb_grpc.ChatServiceStub(channel), host
        self.body = body(metadata={"session_id": str(SESSION)})
        self.fields: dict[str, Any] = {"user_id": "alice", "text": "hi", "session_id": str(SESSION)}

    async def post(self) -> str:
        answer = await self.http.post("/chat/", json=self.body)
        told = answer.json()
        return told["reply"] if answer.is_success else f"{answer.status_code} {told['code']}"

    async def stream(self) -> str:
        async with self.http.stream("POST", "/chat/stream", json=self.body) as answer:
            *_, (kind, data) = [event async for event in events_of(answer)]
        return data["reply"] if kind == "completed" else f"{data['status']} {data['code']}"

    async def call(self) -> str:
        try:
            return (await self.stub.Chat(pb.ChatRequest(**self.fields))).reply
        except aio.AioRpcError as failed:
            return " ".join([failed.code().name, *Refused(failed).reasons])

    async def call_stream(self) -> str:
        answers = self.stub.ChatStream(pb.ChatStreamRequest(**self.fields))
        try:
            return [answer async for answer in answers][-1].completed.reply
        except aio.AioRpcError as failed:
            return " ".join([failed.code().name, *Refused(failed).reasons])

    async def history(self) -> tuple[list[str], list[str]]:
        """The history, over HTTP and over gRPC."""
        url = f"/conversations/{SESSION}?user_id=alice"
        page = (await self.http.get(url)).json()["messages"]
        asked = pb.ListMessagesRequest(user_id="alice", session_id=str(SESSION))
        listed = (await self.stub.ListMessages(asked)).messages
        return [message["reply"] for message in page], [message.reply for message in listed]


@pytest.fixture
async def faces(environment: pytest.MonkeyPatch, place: Place) -> AsyncIterator[Faces]:
    async with odd_host(either(content="hi")) as host:
        environment.setenv("OPENAI_BASE_URL", host.url)
        environment.setenv("CHAT_MODEL", "m")
        async with (
            closing(choose_model(ChatSettings.from_environment())) as model,
            chatting(place, ChatAgent(model)) as stored,
        ):
            chat: Any = FakeChat()
            chat.conversation, chat.turns = stored.conversation, stored.stores.turns
            server = GrpcServer()
            servicer = ChatServicer(stored.conversation, stored.stores.turns, Admission(), **FREE)
            server.add(pb_grpc.add_ChatServiceServicer_to_server, servicer)
            async with (
                gateway(chat) as http,
                listening(server),
                channel_to(server) as channel,
            ):
                yield Faces(http, channel, host)


@pytest.mark.parametrize(
    ("answer", "http", "grpc"),
    [
        (either(content="a \ud83d b"), "a \ufffd b", "a \ufffd b"),
        (events(delta(content="a \ud83d"), delta("stop", content="\ude00")), "a 😀", "a 😀"),
        (either(refusal="I won't"), "I won't", "I won't"),
        (either(content=""), "503 MODEL_UNAVAILABLE", "UNAVAILABLE"),
        (events(delta(content="a"), delta("")), "503 MODEL_UNAVAILABLE", "UNAVAILABLE"),
        (error(TOO_LONG), "400 MODEL_INVALID_FIELD", "INVALID_ARGUMENT"),
        (error("model m not found"), "503 MODEL_MISCONFIGURED", "FAILED_PRECONDITION"),
        (error("slow", 408), "504 MODEL_TIMED_OUT", "DEADLINE_EXCEEDED"),
        (error("busy", 429), "429 MODEL_LIMIT_REACHED", "RESOURCE_EXHAUSTED"),
        (error("no"), "500 MODEL_FAILED", "INTERNAL"),
        (Reply(b"x" * 2**23), "500 MODEL_FAILED", "INTERNAL"),
        (either(content="x" * 200_000), "500 MODEL_FAILED", "INTERNAL"),
    ],
    ids=range(12),
)
async def test_all_apis_return_the_same(faces: Faces, answer: Answer, http: str, grpc: str) -> None:
    faces.host.answers = [answer]
    assert [await faces.post(), await faces.stream()] == [http] * 2
    failed = grpc.isupper()
    called = f"{grpc} daca/{http.split()[1]}" if failed else grpc
    assert [await faces.call(), await faces.call_stream()] == [called] * 2
    kept = [] if failed else [http] * 4
    assert await faces.history() == (kept, kept)
