"""What happens to the replies that a stop's grace is too short for."""

import asyncio
import gc
from collections.abc import Awaitable
from typing import Any

import httpx2
from grpc import StatusCode

from chat_service.app import serve
from chat_service.grpc.servicer import ChatServicer
from chat_service.settings import ChatSettings
from chat_service.web.server import HttpServer
from daca.chat.v1 import chat_pb2 as pb
from daca.chat.v1 import chat_pb2_grpc
from daca_shared.calls.server import GrpcServer
from tests.fakes import FOREVER_S, FREE, FakeChat, channel_to, eventually
from tests.grpc.refusals import refusal
from tests.http.gateways import NO_TLS, body, gateway_app
from tests.reports import sample

HELLO = {"role": "user", "content": "hi"}
SETTINGS = {"CHAT_GRPC_PORT": 0, "DACA_DRAIN_S": 0, "DACA_SHUTDOWN_GRACE_S": 0.3}


def measured(route: str, status: str) -> float:
    labels = {"http_route": route, "http_response_status_code": status, "error_type": "503"}
    name = "http_server_request_duration_seconds_count"
    return sample(name, http_request_method="POST", **labels)


async def test_replies_after_the_grace_period_end_with_an_error_and_are_not_kept() -> None:
    ended = (("/chat/", "503"), ("/chat/stream", "200"))
    before = [measured(*way) for way in ended]
    chat = FakeChat()
    chat.agent.delay_s = FOREVER_S
    gateway = gateway_app(chat)
    http_server = HttpServer(gateway, "127.0.0.1", 0, end_requests=gateway.end_requests)
    grpc_server, stop = GrpcServer(), asyncio.Event()
    servicer = ChatServicer(chat.conversation, chat.turns, chat.admission, **FREE)
    grpc_server.add(chat_pb2_grpc.add_ChatServiceServicer_to_server, servicer)
    settings = ChatSettings.model_validate(SETTINGS)
    serving = asyncio.create_task(
        serve(settings, grpc_server, http_server, stop, chat.conversation.end_streams)
    )
    await eventually(lambda: http_server.port)
    url = f"http://127.0.0.1:{http_server.port}"
    async with (
        httpx2.AsyncClient(base_url=url, verify=NO_TLS) as client,
        channel_to(grpc_server) as channel,
    ):
        stub: Any = chat_pb2_grpc.ChatServiceStub(channel)
        ways: dict[str, Awaitable[Any]] = {
            "/chat/": client.post("/chat/", json=body()),
            "/chat/stream": client.post("/chat/stream", json=body()),
            "/v1": client.post(
                "/v1/chat/completions",
                json={"model": "m", "stream": True, "user": "alice", "messages": [HELLO]},
            ),
            "Chat": refusal(stub.Chat(pb.ChatRequest(user_id="alice", text="hi"))),
            "ChatStream": refusal(pieces(stub)),
        }
        asked = {name: asyncio.ensure_future(way) for name, way in ways.items()}
        await eventually(lambda: len(chat.agent.messages) == len(ways))
        stop.set()
        await serving
        told = {name: await answer for name, answer in asked.items()}
    gc.unfreeze()
    assert (told["/chat/"].status_code, told["/chat/"].json()["code"]) == (503, "STOPPING")
    assert "event: error" in told["/chat/stream"].text
    assert '"code": "STOPPING"' in told["/chat/stream"].text
    assert "The service is stopping" in told["/v1"].text
    for name in ("Chat", "ChatStream"):
        assert (told[name].code, told[name].reasons) == (StatusCode.UNAVAILABLE, ["daca/STOPPING"])
    assert chat.turns.kept == []
    assert [measured(*way) for way in ended] == [count + 1 for count in before]


async def pieces(stub: Any) -> None:
    async for _ in stub.ChatStream(pb.ChatStreamRequest(user_id="alice", text="hi")):
        pass
