"""Single requests that mean harm: each is refused in clear words, and the next one answered."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import quote

import httpx2
import pytest
import pytest_asyncio
import uvicorn
from grpc import StatusCode, aio

from chat_service.access.overload import Load
from chat_service.web.http_protocol import Gateway, limited_http
from daca.analytics.v1 import analytics_pb2, analytics_pb2_grpc
from daca.chat.v1 import chat_pb2, chat_pb2_grpc
from tests.fuzz.hostile import STRANGE_USER_IDS, USER_IDS
from tests.fuzz.real_services import Services, real_gateway, running_services
from tests.grpc.refusals import Refused, refusal

pytestmark = pytest.mark.asyncio(loop_scope="module")

BAD = pytest.mark.parametrize("user_id", USER_IDS.values(), ids=USER_IDS)
STRANGE = pytest.mark.parametrize("user_id", STRANGE_USER_IDS.values(), ids=STRANGE_USER_IDS)
MIB = 2**20
_PACKET = 2**15


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def port(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[int]:
    """Of a real HTTP server."""
    folder = tmp_path_factory.mktemp("hostile-http")
    load = Load()
    app = real_gateway(folder, load)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = Gateway(uvicorn.Config(app, http=limited_http(load), log_config=None))
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        yield listener.getsockname()[1]
        server.should_exit = True
        await serving


@pytest_asyncio.fixture(loop_scope="module")
async def http(port: int) -> AsyncIterator[httpx2.AsyncClient]:
    async with httpx2.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False) as http:
        yield http


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def services(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Services]:
    async with running_services(tmp_path_factory.mktemp("hostile-grpc"), Load()) as services:
        yield services


async def send_raw(port: int, data: bytes) -> int:
    """The status that these bytes get; whoever refuses them need not read them all."""
    async with asyncio.timeout(10):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        status_line = asyncio.create_task(reader.readuntil(b"\r\n"))
        try:
            for at in range(0, len(data), _PACKET):
                writer.write(data[at : at + _PACKET])
                answered, _ = await asyncio.wait([status_line], timeout=0.02)
                if answered:
                    break
            return int((await status_line).split()[1])
        finally:
            status_line.cancel()
            writer.close()


def request(*headers: str, start: str = "GET / HTTP/1.1", body: bytes = b"") -> bytes:
    lines = [start, "Host: test", *headers, "", ""]
    return "\r\n".join(lines).encode("latin-1") + body


def chat_request(*headers: str, body: bytes = b"") -> bytes:
    return request(*headers, start="POST /chat/ HTTP/1.1", body=body)


@pytest.mark.parametrize(
    "data",
    [
        request("X-Long: " + "x" * 200_000),
        request(*(f"X-Header-{n}: {'x' * 200}" for n in range(1_000))),
        request(start=f"GET /users/{'x' * 200_000} HTTP/1.1"),
        request(start=f"GET /?{'x' * 200_000} HTTP/1.1"),
        request(start="G\0T / HTTP/1.1"),
        request(start="nonsense"),
        request("X-Nul: \0"),
        request("X-Bare-CR: a\rInjected: b"),
        request("no colon"),
        request("X Space: x"),
        request("Host: other"),
        chat_request("Content-Length: -1"),
        chat_request("Content-Length: 1e3"),
        chat_request("Content-Length: 2", "Content-Length: 3", body=b"{}"),
        chat_request("Transfer-Encoding: chunked", body=b"zz\r\n{}\r\n0\r\n\r\n"),
        chat_request("Transfer-Encoding: gzip", body=b"x"),
        chat_request("Content-Length: 4", "Content-Encoding: gzip", body=b"\x1f\x8b\x08\x00"),
        chat_request(
            "Content-Length: 4", "Content-Type: application/json; charset=x", body=b"null"
        ),
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ],
    ids=lambda data: data[:60].decode(errors="replace"),
)
async def test_a_bad_request_is_the_callers_fault(
    port: int, http: httpx2.AsyncClient, data: bytes
) -> None:
    assert 400 <= await send_raw(port, data + b"\r\n" * 2) < 500
    assert (await http.get("/healthz")).status_code == 200


@pytest.mark.parametrize(
    "data",
    [
        request("X-Long: " + "x" * 20_000),
        request(*["X-Many: x"] * 1_000),
        request(start=f"GET /?{'x' * 20_000} HTTP/1.1"),
        request(start="GET / HTTP/9.9"),
    ],
    ids=["long", "many", "query", "version"],
)
async def test_a_strange_request_within_the_limits_does_no_harm(
    port: int, http: httpx2.AsyncClient, data: bytes
) -> None:
    assert await send_raw(port, data) < 500
    assert (await http.get("/healthz")).status_code == 200


@pytest.mark.parametrize("path", ["/chat/", "/chat/stream"])
@pytest.mark.parametrize("chunked", [True, False])
async def test_a_body_over_the_limit_is_too_large(
    http: httpx2.AsyncClient, path: str, *, chunked: bool
) -> None:
    content = json.dumps({"user_id": "alice", "text": "x" * MIB}).encode()

    async def chunks() -> AsyncIterator[bytes]:
        for at in range(0, len(content), 2**14):
            yield content[at : at + 2**14]

    answer = await http.post(path, content=chunks() if chunked else content)
    assert (answer.status_code, answer.json()) == (413, {"detail": "Content Too Large"})
    assert (await http.get("/healthz")).status_code == 200


@BAD
async def test_a_bad_user_id_is_refused_wherever_it_stands(
    http: httpx2.AsyncClient, user_id: str
) -> None:
    answers = [
        *[
            await http.get(f"/users/{quote(user_id[:50_000], safe='')}{rest}")
            for rest in ("", "/analytics", "/activity")
        ],
        await http.get("/conversations", params={"user_id": user_id[:50_000]}),
        *[
            await http.post(path, json={"user_id": user_id, "text": "hi"})
            for path in ("/chat/", "/chat/stream")
        ],
    ]
    assert {answer.status_code for answer in answers} <= {413, 422}
    assert all("user_id" in answer.text or answer.status_code == 413 for answer in answers)


@STRANGE
async def test_a_strange_user_id_is_its_owners_only(http: httpx2.AsyncClient, user_id: str) -> None:
    answer = (await http.post("/chat/", json={"user_id": user_id, "text": "hi"})).json()
    assert (answer["user_id"], answer["message_count"]) == (user_id, 0)
    for somebody, count in ((user_id, 1), ("alice", 0)):
        listed = await http.get("/conversations", params={"user_id": somebody})
        assert len(listed.json()["conversations"]) == count
    second = (await http.post("/chat/", json={"user_id": user_id, "text": "hi"})).json()
    assert second["message_count"] == 1


async def assert_answers(services: Services) -> None:
    for channel in (services.chat, services.analytics):
        call: Any = channel.unary_unary("/grpc.health.v1.Health/Check")
        await call(b"")


def calls_as(services: Services, user_id: str, **options: Any) -> list[Any]:
    chat = chat_pb2_grpc.ChatServiceStub(services.chat)
    analytics = analytics_pb2_grpc.AnalyticsServiceStub(services.analytics)
    stream = chat.ChatStream(chat_pb2.ChatStreamRequest(user_id=user_id, text="hi"), **options)
    return [
        chat.Chat(chat_pb2.ChatRequest(user_id=user_id, text="hi"), **options),
        anext(aiter(stream)),
        chat.ListConversations(chat_pb2.ListConversationsRequest(user_id=user_id), **options),
        chat.ListMessages(chat_pb2.ListMessagesRequest(user_id=user_id), **options),
        analytics.GetAnalytics(analytics_pb2.GetAnalyticsRequest(user_id=user_id), **options),
        analytics.ListActivity(analytics_pb2.ListActivityRequest(user_id=user_id), **options),
    ]


async def refusals(calls: list[Any]) -> list[Refused]:
    return [await refusal(call) for call in calls]


@BAD
async def test_a_bad_user_id_is_an_invalid_argument(services: Services, user_id: str) -> None:
    for refused in await refusals(calls_as(services, user_id)):
        assert refused.code is StatusCode.INVALID_ARGUMENT
        assert "user_id" in refused.fields


@STRANGE
async def test_a_strange_user_id_finds_nobody_elses_count(services: Services, user_id: str) -> None:
    analytics = analytics_pb2_grpc.AnalyticsServiceStub(services.analytics)
    call = analytics.GetAnalytics(analytics_pb2.GetAnalyticsRequest(user_id=user_id))
    assert (await refusal(call)).code is StatusCode.NOT_FOUND


async def test_an_encoded_surrogate_is_an_invalid_argument(services: Services) -> None:
    call: Any = services.chat.unary_unary("/daca.chat.v1.ChatService/Chat")
    refused = await refusal(call(b"\x0a\x03\xed\xa0\x80\x12\x02hi"))
    assert refused.code is StatusCode.INVALID_ARGUMENT


async def test_a_message_over_4_mib_is_too_large(services: Services) -> None:
    for refused in await refusals(calls_as(services, "a" * (4 * MIB + 1))):
        assert refused.code is StatusCode.RESOURCE_EXHAUSTED
    await assert_answers(services)


@pytest.mark.parametrize(
    "metadata",
    [
        [("x-long", "x" * 20_000)],
        [("x-long", "x" * MIB)],
        [("x-long-bin", b"\0" * 100_000)],
        [(f"x-header-{n}", "x" * 20) for n in range(1_000)],
        [("dapr-app-id", "x")] * 1_000,
    ],
    ids=["20 KB", "1 MiB", "binary", "many", "repeated"],
)
async def test_metadata_over_the_limit_is_too_large(
    services: Services, metadata: list[tuple[str, Any]]
) -> None:
    for refused in await refusals(calls_as(services, "alice", metadata=aio.Metadata(*metadata))):
        assert refused.code is StatusCode.RESOURCE_EXHAUSTED
    await assert_answers(services)
