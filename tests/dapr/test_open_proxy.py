"""A sidecar's `invoke` reaches the apps of the stack, and nothing else on this machine."""

import asyncio
import base64
from collections.abc import AsyncIterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import httpx2
import pytest
import pytest_asyncio
from dapr.proto.common.v1 import common_pb2
from dapr.proto.runtime.v1 import dapr_pb2_grpc, invoke_pb2
from grpc import aio

from lab.stack import RunningStack, http

pytestmark = pytest.mark.asyncio(loop_scope="session")


class Inside(ThreadingHTTPServer):
    """An unrelated HTTP server on this machine. Counts the requests that reach it."""

    def __init__(self) -> None:
        self.visits = 0
        super().__init__(("127.0.0.1", 0), Handler)

    def process_request(self, *args: object) -> None:
        self.visits += 1
        super().process_request(*args)  # type: ignore[arg-type]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"a secret")

    def log_message(self, *args: object) -> None:
        """Nothing."""


@pytest_asyncio.fixture(loop_scope="session")
async def inside() -> AsyncIterator[Inside]:
    server = Inside()
    thread = Thread(target=server.serve_forever)
    thread.start()
    yield server
    await asyncio.to_thread(server.shutdown)
    thread.join()
    server.server_close()


@pytest.mark.parametrize("way", ["path", "escaped", "header", "authorization"])
@pytest.mark.parametrize("app", ["chat", "analytics"])
async def test_no_url_is_an_app_id_over_http(
    system: RunningStack, inside: Inside, way: str, app: str
) -> None:
    sidecar = f"http://127.0.0.1:{system.sidecar_port(getattr(system, app), 'HTTP')}"
    credentials = base64.b64encode(f"dapr-app-id:{inside.url}".encode()).decode()
    path, headers = {
        "path": (f"/v1.0/invoke/{inside.url}/method/x", {}),
        "escaped": (f"/v1.0/invoke/{inside.url.replace('/', '%2F')}/method/x", {}),
        "header": ("/x", {"dapr-app-id": f"{inside.url}/x?"}),
        "authorization": ("/x", {"authorization": f"Basic {credentials}"}),
    }[way]
    async with httpx2.AsyncClient(timeout=20) as client:
        answer = await client.get(sidecar + path, headers=headers)
    assert answer.status_code >= 400
    assert "secret" not in answer.text
    assert inside.visits == 0


async def test_no_url_is_an_app_id_over_grpc(system: RunningStack, inside: Inside) -> None:
    message = common_pb2.InvokeRequest(
        method="x", http_extension=common_pb2.HTTPExtension(verb=common_pb2.HTTPExtension.GET)
    )
    async with aio.insecure_channel(
        f"127.0.0.1:{system.sidecar_port(system.chat, 'gRPC')}"
    ) as channel:
        stub = dapr_pb2_grpc.DaprStub(channel)
        request = invoke_pb2.InvokeServiceRequest(id=inside.url, message=message)
        with pytest.raises(aio.AioRpcError):
            await stub.InvokeService(request, timeout=10)
    assert inside.visits == 0


async def test_the_apps_are_still_reached(system: RunningStack) -> None:
    sidecar = f"http://127.0.0.1:{system.sidecar_port(system.chat, 'HTTP')}"
    url = f"{sidecar}/v1.0/invoke/{system.analytics}/method/analytics/bob"
    assert await asyncio.to_thread(http, "GET", url) == (200, {"message_count": 3})
