import asyncio
import json
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import pytest
from dapr.proto.common.v1 import common_pb2
from dapr.proto.runtime.v1 import appcallback_pb2_grpc
from google.protobuf.timestamp_pb2 import Timestamp
from grpc import StatusCode, aio

from analytics_service.__main__ import build_server
from analytics_service.store import AnalyticsStore
from chat_service.outbox.analytics import AnalyticsClient
from chat_service.outbox.outbox_rows import OutboxEntry
from daca.analytics.v1 import analytics_pb2 as pb
from daca.analytics.v1 import analytics_pb2_grpc as pb_grpc
from daca_shared.calls.errors import INTERNAL_MESSAGE, Context
from daca_shared.calls.server import GrpcServer
from daca_shared.calls.sidecar import Peer, find_peer
from daca_shared.domain import DomainError, InvalidInput, NotFound, TimedOut, Unavailable
from tests.fakes import BAD_USER_IDS, FOREVER_S, channel_to, listening
from tests.grpc.refusals import assert_bad_fields, refusal, send_bytes

type Stub = pb_grpc.AnalyticsServiceAsyncStub  # there for the type checker only

NOW = Timestamp(seconds=1_700_000_000, nanos=123_456_000)
BAD_IDS = ["", "x", "not-a-uuid", "1" * 200, "\n"]


@pytest.fixture
def stub(analytics_channel: aio.Channel) -> Stub:
    return pb_grpc.AnalyticsServiceStub(analytics_channel)


def sent(user_id: str = "carol", message_id: str | None = None, **fields: Any) -> pb.SentMessage:
    id_ = str(uuid4()) if message_id is None else message_id
    return pb.SentMessage(message_id=id_, user_id=user_id, **{"sent_time": NOW, **fields})


async def assert_nothing_recorded(store: AnalyticsStore) -> None:
    with pytest.raises(NotFound):
        await store.get("carol")


async def test_get_analytics(stub: Stub) -> None:
    response = await stub.GetAnalytics(pb.GetAnalyticsRequest(user_id="alice"))
    assert response.analytics == pb.UserAnalytics(user_id="alice", message_count=5)


async def test_an_unknown_user_is_not_found(stub: Stub) -> None:
    refused = await refusal(stub.GetAnalytics(pb.GetAnalyticsRequest(user_id="charlie")))
    assert (refused.code, refused.details) == (StatusCode.NOT_FOUND, "User not found")
    assert refused.reasons == ["daca/NOT_FOUND"]


async def test_recorded_messages_count_once(stub: Stub) -> None:
    request = pb.RecordMessagesRequest(messages=[sent(), sent(), sent("alice")])
    assert [(await stub.RecordMessages(request)).counted for _ in range(3)] == [3, 0, 0]
    carol = (await stub.GetAnalytics(pb.GetAnalyticsRequest(user_id="carol"))).analytics
    assert carol == pb.UserAnalytics(user_id="carol", message_count=2, last_message_time=NOW)
    alice = (await stub.GetAnalytics(pb.GetAnalyticsRequest(user_id="alice"))).analytics
    assert alice.message_count == 6


@pytest.mark.parametrize("user_id", BAD_USER_IDS.values(), ids=BAD_USER_IDS)
async def test_a_bad_user_id_is_refused_by_name(stub: Stub, user_id: str) -> None:
    refused = await refusal(stub.GetAnalytics(pb.GetAnalyticsRequest(user_id=user_id)))
    assert_bad_fields(refused, ["user_id"])


@pytest.mark.parametrize(
    ("messages", "fields"),
    [
        ([], ["messages"]),
        ([sent() for _ in range(1001)], ["messages"]),
        *(([sent(), sent(user_id=bad)], ["messages[1].user_id"]) for bad in BAD_USER_IDS.values()),
        *(([sent(), sent(message_id=bad)], ["messages[1].message_id"]) for bad in BAD_IDS),
        ([sent(), sent(sent_time=None)], ["messages[1].sent_time"]),
        ([sent(sent_time=Timestamp(seconds=10**15))], ["messages[0].sent_time"]),
        ([sent(sent_time=Timestamp(seconds=-(10**15)))], ["messages[0].sent_time"]),
        ([sent(sent_time=Timestamp(nanos=-1))], ["messages[0].sent_time"]),
        ([sent("a/b"), sent(message_id="x")], ["messages[0].user_id", "messages[1].message_id"]),
    ],
)
async def test_a_bad_batch_is_refused_whole_and_by_field(
    stub: Stub,
    store: AnalyticsStore,
    messages: list[pb.SentMessage],
    fields: list[str],
) -> None:
    refused = await refusal(stub.RecordMessages(pb.RecordMessagesRequest(messages=messages)))
    assert_bad_fields(refused, fields)
    await assert_nothing_recorded(store)


async def test_a_batch_that_is_all_bad_is_still_invalid_argument(
    stub: Stub,
) -> None:
    request = pb.RecordMessagesRequest(messages=[sent("a/b", "x") for _ in range(1000)])
    refused = await refusal(stub.RecordMessages(request))
    assert refused.code is StatusCode.INVALID_ARGUMENT
    assert refused.fields[:2] == ["messages[0].message_id", "messages[0].user_id"]


async def test_the_last_batch_that_is_small_enough_is_taken(
    stub: Stub,
) -> None:
    request = pb.RecordMessagesRequest(messages=[sent() for _ in range(1000)])
    assert (await stub.RecordMessages(request)).counted == 1000


@pytest.mark.parametrize("method", ["GetAnalytics", "RecordMessages"])
async def test_bytes_that_are_no_message_are_the_callers_fault(
    analytics_channel: aio.Channel, method: str
) -> None:
    path = f"/daca.analytics.v1.AnalyticsService/{method}"
    refused = await refusal(send_bytes(analytics_channel, path, b"\xff\xff\xff"))
    assert refused.code is StatusCode.INVALID_ARGUMENT


class TestOnInvoke:
    """The old REST face, as daprd calls it."""

    @pytest.fixture
    def invoke(self, analytics_channel: aio.Channel) -> Any:
        # The dapr package's stubs are untyped.
        stub: Any = appcallback_pb2_grpc.AppCallbackStub(analytics_channel)
        return lambda method: stub.OnInvoke(common_pb2.InvokeRequest(method=method))

    @pytest.mark.parametrize("method", ["analytics/alice", "/analytics/alice"])
    async def test_tells_a_count_in_json(self, invoke: Any, method: str) -> None:
        response = await invoke(method)
        assert json.loads(response.data.value) == {"message_count": 5}
        assert response.content_type == "application/json"

    @pytest.mark.parametrize(
        ("method", "code", "details"),
        [
            ("analytics/charlie", StatusCode.NOT_FOUND, "User not found"),
            ("analytics/", StatusCode.INVALID_ARGUMENT, "user_id"),
            ("analytics/a/b", StatusCode.INVALID_ARGUMENT, "user_id"),
            ("other", StatusCode.NOT_FOUND, "No such method"),
            ("", StatusCode.NOT_FOUND, "No such method"),
        ],
    )
    async def test_refuses(self, invoke: Any, method: str, code: StatusCode, details: str) -> None:
        refused = await refusal(invoke(method))
        assert refused.code is code
        assert details in (refused.details or "")


class Scripted(pb_grpc.AnalyticsServiceServicer):
    """Analytics that does as it is told, and notes what calls carry."""

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
    assert refused.reasons == []
    assert "pa55word" in caplog.text


def client_of(server: GrpcServer) -> AnalyticsClient:
    return AnalyticsClient(Peer(f"127.0.0.1:{server.port}"))


def entry(user_id: str = "carol", message_id: UUID | None = None) -> OutboxEntry:
    return OutboxEntry(1, message_id or uuid4(), user_id, datetime.now(UTC), 1)


class TestClient:
    async def test_reads_records_and_checks(self, analytics_server: GrpcServer) -> None:
        client = client_of(analytics_server)
        one = entry()
        await client.check()
        await client.record([one, entry(), entry("alice")])
        await client.record([one])
        assert await client.message_count("carol", timeout_s=1) == 2
        assert await client.message_count("alice", timeout_s=1) == 6
        with pytest.raises(NotFound, match="User not found"):
            await client.message_count("charlie", timeout_s=1)
        with pytest.raises(InvalidInput):
            await client.record([entry("a/b")])
        await client.close()

    async def test_a_dead_server_is_unavailable(self, store: AnalyticsStore) -> None:
        async with listening(build_server(store)) as server:
            client = client_of(server)
        for call in (client.message_count("a", timeout_s=5), client.record([entry()])):
            with pytest.raises(Unavailable):
                await call
        with pytest.raises(DomainError):
            await client.check()
        await client.close()

    @pytest.mark.parametrize(
        ("outcome", "expected"),
        [
            (StatusCode.UNAVAILABLE, Unavailable),
            (StatusCode.UNKNOWN, Unavailable),
            (StatusCode.INTERNAL, Unavailable),
            (StatusCode.PERMISSION_DENIED, Unavailable),
            (StatusCode.RESOURCE_EXHAUSTED, Unavailable),
            (StatusCode.UNIMPLEMENTED, Unavailable),
            (StatusCode.NOT_FOUND, NotFound),
            (StatusCode.INVALID_ARGUMENT, InvalidInput),
            (StatusCode.DEADLINE_EXCEEDED, TimedOut),
            (FOREVER_S, TimedOut),
        ],
    )
    async def test_each_failure_has_its_domain_error(
        self, outcome: StatusCode | float, expected: type[DomainError]
    ) -> None:
        async with listening(scripted_server(Scripted(outcome))) as server:
            client = client_of(server)
            with pytest.raises(expected):
                await client.message_count("a", timeout_s=0.2)
            await client.close()

    @pytest.mark.parametrize("code", [StatusCode.UNAVAILABLE, StatusCode.UNKNOWN])
    async def test_an_absent_app_is_out_of_reach_in_either_of_daprds_codes(
        self, code: StatusCode
    ) -> None:
        async with listening(scripted_server(Scripted(code))) as server:
            client = client_of(server)
            with pytest.raises(Unavailable, match="can't be reached"):
                await client.message_count("a", timeout_s=1)
            await client.close()

    async def test_every_call_has_a_deadline(self) -> None:
        scripted = Scripted()
        async with listening(scripted_server(scripted)) as server:
            client = client_of(server)
            await client.message_count("a", timeout_s=3)
            assert 2 < (scripted.time_remaining_s or 0) < 3.5
            await client.record([entry()])
            assert 4 < (scripted.time_remaining_s or 0) < 5.5
            await client.close()

    @pytest.mark.parametrize(
        ("token", "expected"),
        [
            (None, {"dapr-app-id": "counts"}),
            ("t0k", {"dapr-app-id": "counts", "dapr-api-token": "t0k"}),
        ],
    )
    async def test_a_sidecar_is_told_the_app_id_and_nothing_else(
        self, token: str | None, expected: dict[str, str]
    ) -> None:
        scripted = Scripted()
        async with listening(scripted_server(scripted)) as server:
            peer = find_peer(
                "counts", sidecar_grpc_port=server.port, api_token=token, direct_address="nowhere:1"
            )
            client = AnalyticsClient(peer)
            await client.message_count("alice", timeout_s=5)
            await client.close()
        assert "t0k" not in repr(peer)
        del scripted.metadata["user-agent"]
        assert scripted.metadata == expected

    def test_without_a_sidecar_analytics_is_dialled_directly(self) -> None:
        peer = find_peer("x", sidecar_grpc_port=None, api_token="t", direct_address="there:1")
        assert (peer.address, peer.metadata) == ("there:1", ())


async def test_activity_comes_day_by_day(analytics_channel: aio.Channel) -> None:
    stub = pb_grpc.AnalyticsServiceStub(analytics_channel)
    response = await stub.ListActivity(pb.ListActivityRequest(user_id="alice"))
    assert len(response.days) == 14
    response = await stub.ListActivity(pb.ListActivityRequest(user_id="alice", day_count=90))
    assert len(response.days) == 90


@pytest.mark.parametrize("day_count", [-1, 91])
async def test_a_day_count_out_of_range_is_refused_by_name(
    analytics_channel: aio.Channel, day_count: int
) -> None:
    stub = pb_grpc.AnalyticsServiceStub(analytics_channel)
    request = pb.ListActivityRequest(user_id="alice", day_count=day_count)
    assert_bad_fields(await refusal(stub.ListActivity(request)), ["day_count"])
