"""Single hostile HTTP requests: each is refused with a clear error, and the next request is
answered."""

import asyncio
import json
from collections.abc import AsyncIterator
from urllib.parse import quote

import httpx2
import pytest
import pytest_asyncio

from chat_service.web.server import HttpServer
from tests.fuzz.hostile import STRANGE_USER_IDS, USER_IDS
from tests.real_services import running_services

pytestmark = pytest.mark.asyncio(loop_scope="module")

BAD = pytest.mark.parametrize("user_id", USER_IDS.values(), ids=USER_IDS)
STRANGE = pytest.mark.parametrize("user_id", STRANGE_USER_IDS.values(), ids=STRANGE_USER_IDS)
MIB = 2**20
_PACKET = 2**15


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def port(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[int]:
    """The port of a real HTTP server."""
    async with running_services(tmp_path_factory.mktemp("hostile-http")) as services:
        server = HttpServer(services.gateway, "127.0.0.1", 0)
        await server.start()
        yield server.port
        await server.stop(1)


@pytest_asyncio.fixture(loop_scope="module")
async def http(port: int) -> AsyncIterator[httpx2.AsyncClient]:
    async with httpx2.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False) as http:
        yield http


async def send_raw(port: int, data: bytes) -> int:
    """The status that these bytes get. A server that refuses them needn't read them all."""
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
        request("Host: other"),
    ],
    ids=["long", "many", "query", "version", "two hosts"],
)
async def test_a_strange_request_within_the_limits_does_no_harm(
    port: int, http: httpx2.AsyncClient, data: bytes
) -> None:
    assert await send_raw(port, data) < 500
    assert (await http.get("/healthz")).status_code == 200


async def test_another_protocol_is_not_answered(port: int, http: httpx2.AsyncClient) -> None:
    with pytest.raises(asyncio.IncompleteReadError):
        await send_raw(port, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
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
    told = answer.json()["detail"]
    assert (answer.status_code, told) == (
        413,
        "The body is too large; a chat's may have 1,000,000 bytes, a title's 10,000",
    )
    assert (await http.get("/healthz")).status_code == 200


@BAD
async def test_a_bad_user_id_is_refused_in_paths_queries_and_bodies(
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
