"""The chat service's client of analytics, with the real analytics and with a scripted one."""

import asyncio
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import pytest
from grpc import StatusCode
from pydantic import SecretStr

from analytics_service.__main__ import build_server
from analytics_service.store import AnalyticsStore
from chat_service.outbox.analytics import AnalyticsClient
from chat_service.outbox.outbox import OutboxEntry
from daca.analytics.v1 import analytics_pb2 as pb
from daca.analytics.v1 import analytics_pb2_grpc as pb_grpc
from daca_shared.calls.errors import INTERNAL_MESSAGE, Context
from daca_shared.calls.server import GrpcServer
from daca_shared.calls.sidecar import Peer, find_peer
from daca_shared.domain import DomainError, InvalidInput, NotFound, TimedOut, Unavailable
from daca_shared.observe.tracing import tracing
from daca_shared.settings import ServiceSettings
from tests.fakes import FOREVER_S, channel_to, listening
from tests.grpc.refusals import refusal
from tests.relay import pass_on
from tests.spans import Spans


class Scripted(pb_grpc.AnalyticsServiceServicer):
    """A scripted analytics, which also records the metadata of calls."""

    def __init__(self, outcome: StatusCode | Exception | float = StatusCode.OK) -> None:
        self.outcome = outcome
        self.metadata: dict[str, Any] = {}
        self.time_remaining_s: float | None = None

    async def GetAnalytics(
        self, request: pb.GetAnalyticsRequest, context: Context
    ) -> pb.GetAnalyticsResponse:
        self.metadata = dict(context.invocation_metadata() or ())
        self.time_remaining_s = context.time_remaining()
        match self.outcome:
            case Exception():
                raise self.outcome
            case float():
                await asyncio.sleep(self.outcome)
            case StatusCode() as code if code is not StatusCode.OK:
                await context.abort(code, "the server's own words")
        return pb.GetAnalyticsResponse()

    async def ListActivity(
        self, request: pb.ListActivityRequest, context: Context
    ) -> pb.ListActivityResponse:
        await self.GetAnalytics(pb.GetAnalyticsRequest(), context)
        return pb.ListActivityResponse()

    async def RecordMessages(
        self, request: pb.RecordMessagesRequest, context: Context
    ) -> pb.RecordMessagesResponse:
        await self.GetAnalytics(pb.GetAnalyticsRequest(), context)
        return pb.RecordMessagesResponse()


def scripted_server(servicer: Scripted) -> GrpcServer:
    server = GrpcServer()
    server.add(pb_grpc.add_AnalyticsServiceServicer_to_server, servicer)
    return server


async def test_the_unexpected_is_internal_and_leaks_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with (
        listening(scripted_server(Scripted(RuntimeError("pa55word")))) as server,
        channel_to(server) as channel,
    ):
        stub = pb_grpc.AnalyticsServiceStub(channel)
        refused = await refusal(stub.GetAnalytics(pb.GetAnalyticsRequest()))
    assert (refused.code, refused.details) == (StatusCode.INTERNAL, INTERNAL_MESSAGE)
    assert refused.reasons == ["daca/INTERNAL"]
    assert "pa55word" in caplog.text


def client_of(server: GrpcServer) -> AnalyticsClient:
    return AnalyticsClient(Peer(f"127.0.0.1:{server.port}"))


def entry(user_id: str = "carol", message_id: UUID | None = None) -> OutboxEntry:
    return OutboxEntry(1, message_id or uuid4(), user_id, datetime.now(UTC), None)


async def test_a_client_is_told_that_analytics_is_not_ready(analytics_server: GrpcServer) -> None:
    client = client_of(analytics_server)
    await analytics_server.drain()
    with pytest.raises(Unavailable, match="not ready"):
        await client.check()
    await client.close()


async def test_the_client_reads_records_and_checks(analytics_server: GrpcServer) -> None:
    client = client_of(analytics_server)
    one = entry()
    await client.check()
    await client.record([one, entry(), entry("alice")])
    await client.record([one])
    assert await client.message_count("carol", timeout_s=1) == 2
    assert await client.message_count("alice", timeout_s=1) == 6
    assert [*(await client.activity("carol", timeout_s=1)).values()] == [0] * 13 + [2]
    with pytest.raises(NotFound, match="User not found"):
        await client.message_count("charlie", timeout_s=1)
    with pytest.raises(InvalidInput):
        await client.record([entry("a/b")])
    await client.close()


async def test_a_dead_server_is_unavailable(store: AnalyticsStore) -> None:
    async with listening(build_server(store)) as server:
        client = client_of(server)
    for call in (client.message_count("a", timeout_s=5), client.record([entry()])):
        with pytest.raises(Unavailable):
            await call
    with pytest.raises(DomainError):
        await client.check()
    await client.close()


@pytest.mark.parametrize(
    ("outcome", "expected", "code"),
    [
        (StatusCode.UNAVAILABLE, Unavailable, "ANALYTICS_UNAVAILABLE"),
        (StatusCode.UNKNOWN, Unavailable, "ANALYTICS_UNAVAILABLE"),
        (StatusCode.INTERNAL, Unavailable, "ANALYTICS_UNAVAILABLE"),
        (StatusCode.PERMISSION_DENIED, Unavailable, "ANALYTICS_UNAVAILABLE"),
        (StatusCode.RESOURCE_EXHAUSTED, Unavailable, "ANALYTICS_UNAVAILABLE"),
        (StatusCode.UNIMPLEMENTED, Unavailable, "ANALYTICS_UNAVAILABLE"),
        (StatusCode.NOT_FOUND, NotFound, "USER_NOT_FOUND"),
        (StatusCode.INVALID_ARGUMENT, InvalidInput, "INVALID_FIELD"),
        (StatusCode.DEADLINE_EXCEEDED, TimedOut, "ANALYTICS_TIMED_OUT"),
        (StatusCode.CANCELLED, Unavailable, "ANALYTICS_UNAVAILABLE"),
        (FOREVER_S, TimedOut, "ANALYTICS_TIMED_OUT"),
    ],
)
async def test_each_failure_has_its_domain_error(
    outcome: StatusCode | float, expected: type[DomainError], code: str
) -> None:
    async with listening(scripted_server(Scripted(outcome))) as server:
        client = client_of(server)
        with pytest.raises(expected) as failure:
            await client.message_count("a", timeout_s=0.2 if outcome == FOREVER_S else 5)
        assert failure.value.code == code
        await client.close()


async def test_a_call_that_a_sidecar_cancels_at_its_deadline_has_timed_out() -> None:
    class Cancelling(Scripted):
        async def GetAnalytics(
            self, request: pb.GetAnalyticsRequest, context: Context
        ) -> pb.GetAnalyticsResponse:
            await asyncio.sleep((context.time_remaining() or 0) - 0.05)
            return await super().GetAnalytics(request, context)

    async with listening(scripted_server(Cancelling(StatusCode.CANCELLED))) as server:
        client = client_of(server)
        with pytest.raises(TimedOut):
            await client.message_count("a", timeout_s=0.3)
        await client.close()


@pytest.mark.parametrize("code", [StatusCode.UNAVAILABLE, StatusCode.UNKNOWN])
async def test_an_absent_app_is_out_of_reach_in_either_of_daprds_codes(code: StatusCode) -> None:
    async with listening(scripted_server(Scripted(code))) as server:
        client = client_of(server)
        with pytest.raises(Unavailable, match="can't be reached"):
            await client.message_count("a", timeout_s=1)
        await client.close()


async def test_a_call_that_is_given_up_is_not_reported_as_answered() -> None:
    async with listening(scripted_server(Scripted(FOREVER_S))) as server:
        client = client_of(server)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(client.message_count("alice", timeout_s=FOREVER_S), 0.1)
        assert client.last_call is not None
        assert client.last_call.outcome == "cancelled"
        await client.close()


async def test_a_traced_call_is_the_same_call(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracing, "tracer", Spans().tracer)
    scripted = Scripted()
    async with listening(scripted_server(scripted)) as server:
        peer = Peer(f"127.0.0.1:{server.port}", (("dapr-app-id", "analytics-service"),))
        client = AnalyticsClient(peer)
        assert await client.message_count("alice", timeout_s=1) == 0
        assert client.last_call
        assert client.last_call.outcome == "OK"
        await client.close()
    assert scripted.metadata["dapr-app-id"] == "analytics-service"
    assert "traceparent" in scripted.metadata


async def test_every_call_has_a_deadline() -> None:
    scripted = Scripted()
    async with listening(scripted_server(scripted)) as server:
        client = client_of(server)
        await client.message_count("a", timeout_s=3)
        assert 2 < (scripted.time_remaining_s or 0) < 3.5
        await client.activity("a", timeout_s=3)
        assert 2 < (scripted.time_remaining_s or 0) < 3.5
        await client.record([entry()])
        assert 2 < (scripted.time_remaining_s or 0) < 3.5
        await client.close()


async def test_a_busy_machine_may_take_a_moment_to_accept_the_connection() -> None:
    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(0.3)
        answers, requests = await asyncio.open_connection("127.0.0.1", server.port)
        await asyncio.gather(pass_on(reader, requests), pass_on(answers, writer))

    async with (
        listening(scripted_server(Scripted())) as server,
        await asyncio.start_server(accept, "127.0.0.1", 0) as slow,
    ):
        port = slow.sockets[0].getsockname()[1]
        client = AnalyticsClient(Peer(f"127.0.0.1:{port}"))
        try:
            assert await client.message_count("alice", timeout_s=5) == 0
        finally:
            await client.close()


@pytest.mark.parametrize(
    ("token", "expected"),
    [
        (None, {"dapr-app-id": "counts"}),
        (SecretStr("t0k"), {"dapr-app-id": "counts", "dapr-api-token": "t0k"}),
    ],
)
async def test_a_sidecar_is_told_the_app_id_and_nothing_else(
    token: SecretStr | None, expected: dict[str, str]
) -> None:
    scripted = Scripted()
    async with listening(scripted_server(scripted)) as server:
        sidecar = {"DAPR_GRPC_PORT": server.port, "DAPR_API_TOKEN": token}
        peer = find_peer(ServiceSettings.model_validate(sidecar), "counts", "nowhere:1")
        client = AnalyticsClient(peer)
        await client.message_count("alice", timeout_s=5)
        await client.close()
    assert "t0k" not in repr(peer)
    del scripted.metadata["user-agent"]
    assert scripted.metadata == expected


@pytest.mark.parametrize(
    ("variable", "shown"),
    [("DAPR_API_TOKEN", ()), ("APP_API_TOKEN", (("dapr-api-token", "t"),))],
)
def test_without_a_sidecar_analytics_is_dialled_directly_and_shown_its_own_token(
    variable: str, shown: tuple[tuple[str, str], ...]
) -> None:
    settings = ServiceSettings.model_validate({variable: "t"})
    peer = find_peer(settings, "x", "there:1")
    assert (peer.address, peer.metadata) == ("there:1", shown)
    assert peer.way == "directly, without a sidecar"
