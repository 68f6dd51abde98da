"""The proxied call itself: our client, two real sidecars, and a server."""

import asyncio
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import httpx2
import pytest
import pytest_asyncio

from analytics_service.servicer import AnalyticsServicer
from chat_service.outbox.analytics import AnalyticsClient
from daca.analytics.v1 import analytics_pb2, analytics_pb2_grpc
from daca.chat.v1 import chat_pb2, chat_pb2_grpc
from daca_shared.calls.errors import Context
from daca_shared.calls.server import GrpcServer
from daca_shared.calls.sidecar import find_peer
from daca_shared.domain import NotFound, TimedOut, Unavailable
from daca_shared.settings import ServiceSettings
from lab.stack import RunningStack, eventually, http, render_run_file
from scripts.stack import Stack
from tests.reports import scraped

pytestmark = pytest.mark.asyncio(loop_scope="session")


def beside(sidecar_grpc_port: int) -> ServiceSettings:
    return ServiceSettings.model_validate({"DAPR_GRPC_PORT": sidecar_grpc_port})


def client_of(system: RunningStack, app_id: str) -> AnalyticsClient:
    port = system.sidecar_port(system.chat, "gRPC")
    peer = find_peer(beside(port), app_id, "")
    return AnalyticsClient(peer)


@pytest_asyncio.fixture(loop_scope="session")
async def client(system: RunningStack) -> AsyncIterator[AnalyticsClient]:
    client = client_of(system, system.analytics)
    yield client
    await client.close()


async def test_the_count_comes_through_both_sidecars(client: AnalyticsClient) -> None:
    assert await client.message_count("bob", timeout_s=2) == 3


async def test_the_activity_comes_through_both_sidecars(client: AnalyticsClient) -> None:
    assert len(await client.activity("bob", timeout_s=2)) == 14


async def test_an_unknown_user_is_not_found(client: AnalyticsClient) -> None:
    with pytest.raises(NotFound, match="User not found"):
        await client.message_count("nobody", timeout_s=2)


async def test_an_unknown_app_id_is_unavailable(system: RunningStack) -> None:
    client = client_of(system, "no-such-app-here")
    with pytest.raises(Unavailable):
        await client.message_count("bob", timeout_s=10)
    await client.close()


async def test_an_unknown_app_id_costs_no_more_than_the_deadline(system: RunningStack) -> None:
    client = client_of(system, "no-such-app-either")
    with pytest.raises((TimedOut, Unavailable)):
        await client.message_count("bob", timeout_s=0.3)
    await client.close()


async def test_health_can_be_asked_through_the_sidecars(client: AnalyticsClient) -> None:
    await client.check()


async def test_http_callers_of_the_old_rest_api_are_still_answered(system: RunningStack) -> None:
    port = system.sidecar_port(system.chat, "HTTP")
    url = f"http://127.0.0.1:{port}/v1.0/invoke/{system.analytics}/method/analytics"
    assert http("GET", f"{url}/bob") == (200, {"message_count": 3})
    status, body = http("GET", f"{url}/charlie")
    assert (status, body["message"]) == (404, "User not found")
    # Each user id would become some forty time series, in plain text.
    port = system.sidecar_port(system.chat, "metrics")
    told = await asyncio.to_thread(scraped, port)
    assert "dapr_http_server_request_count" in told
    assert "charlie" not in told


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
async def test_no_page_learns_from_a_sidecar_whether_a_user_exists(
    system: RunningStack, site: str
) -> None:
    port = system.sidecar_port(system.chat, "HTTP")
    url = f"http://127.0.0.1:{port}/v1.0/invoke/{system.analytics}/method/analytics"
    async with httpx2.AsyncClient(headers={"sec-fetch-site": site}) as page:
        answers = [await page.get(f"{url}/{user}") for user in ("bob", "charlie")]
    assert [answer.status_code for answer in answers] == [403, 403]


class Recording(AnalyticsServicer):
    """An analytics service that records its calls."""

    def __init__(self) -> None:
        self.metadata: dict[str, str | bytes] = {}
        self.time_remaining_s: float | None = None

    async def GetAnalytics(
        self, request: analytics_pb2.GetAnalyticsRequest, context: Context
    ) -> analytics_pb2.GetAnalyticsResponse:
        self.metadata = dict(context.invocation_metadata() or ())
        self.time_remaining_s = context.time_remaining()
        return analytics_pb2.GetAnalyticsResponse()


async def test_the_callee_sees_who_called_and_the_callers_deadline(
    tmp_path: Path, daprd: Path
) -> None:
    stack = Stack(render_run_file(tmp_path), daprd=daprd, log_dir=tmp_path / "logs")
    analytics_id, chat_id = (n for n in stack.services if not n.endswith("-sidecar"))
    app_port = stack.services[analytics_id].ports["gRPC"]
    sidecars = [stack.services[f"{analytics_id}-sidecar"], stack.services[f"{chat_id}-sidecar"]]
    recording = Recording()
    server = GrpcServer()
    server.add(analytics_pb2_grpc.add_AnalyticsServiceServicer_to_server, recording)
    await server.start("127.0.0.1", app_port, "")
    for sidecar in sidecars:
        await sidecar.start()
    port = stack.services[f"{chat_id}-sidecar"].ports["gRPC"]
    peer = find_peer(beside(port), analytics_id, "")
    async with peer.channel() as channel:
        stub = analytics_pb2_grpc.AnalyticsServiceStub(channel)
        request = analytics_pb2.GetAnalyticsRequest(user_id="x")
        try:
            await stub.GetAnalytics(
                request, timeout=20, metadata=peer.metadata, wait_for_ready=True
            )
        finally:
            for sidecar in sidecars:
                await sidecar.stop()
            await server.stop(0)
    assert recording.metadata["dapr-caller-app-id"] == chat_id
    assert recording.metadata["dapr-callee-app-id"] == analytics_id
    assert recording.time_remaining_s is not None
    assert 0 < recording.time_remaining_s <= 20


async def test_another_app_streams_a_chat_through_the_sidecars(system: RunningStack) -> None:
    port = system.sidecar_port(system.analytics, "gRPC")
    peer = find_peer(beside(port), system.chat, "")
    request = chat_pb2.ChatStreamRequest(user_id="streamer", text="Hello")
    async with peer.channel() as channel:
        stub = chat_pb2_grpc.ChatServiceStub(channel)
        metadata = (*peer.metadata, ("dapr-stream", "true"))
        events = [e async for e in stub.ChatStream(request, metadata=metadata, timeout=10)]
    *deltas, last = events
    assert deltas
    assert "".join(event.reply_delta for event in deltas) == last.completed.reply
    await eventually(partial(system.count, "streamer"), 1)
