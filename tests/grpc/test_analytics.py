import json
from typing import Any
from uuid import uuid4

import pytest
from dapr.proto.common.v1 import common_pb2
from dapr.proto.runtime.v1 import appcallback_pb2_grpc
from google.protobuf.timestamp_pb2 import Timestamp
from grpc import StatusCode, aio

from analytics_service.store import AnalyticsStore
from daca.analytics.v1 import analytics_pb2 as pb
from daca.analytics.v1 import analytics_pb2_grpc as pb_grpc
from daca_shared.domain import NotFound
from tests.fakes import BAD_USER_IDS
from tests.grpc.refusals import assert_bad_fields, refusal, send_bytes

type Stub = pb_grpc.AnalyticsServiceAsyncStub  # exists only for the type checker

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


async def test_a_user_with_messages_has_a_count(stub: Stub) -> None:
    response = await stub.GetAnalytics(pb.GetAnalyticsRequest(user_id="alice"))
    assert response.analytics == pb.UserAnalytics(user_id="alice", message_count=5)


async def test_an_unknown_user_is_not_found(stub: Stub) -> None:
    refused = await refusal(stub.GetAnalytics(pb.GetAnalyticsRequest(user_id="charlie")))
    assert (refused.code, refused.details) == (StatusCode.NOT_FOUND, "User not found")
    assert refused.reasons == ["daca/USER_NOT_FOUND"]


async def test_recorded_messages_count_once(stub: Stub) -> None:
    request = pb.RecordMessagesRequest(messages=[sent(), sent(), sent("alice")])
    assert [(await stub.RecordMessages(request)).counted for _ in range(3)] == [3, 0, 0]
    carol = (await stub.GetAnalytics(pb.GetAnalyticsRequest(user_id="carol"))).analytics
    assert carol == pb.UserAnalytics(user_id="carol", message_count=2, last_message_time=NOW)
    alice = (await stub.GetAnalytics(pb.GetAnalyticsRequest(user_id="alice"))).analytics
    assert alice.message_count == 6


async def test_the_refusal_of_a_blank_user_id_says_what_is_wrong(stub: Stub) -> None:
    refused = await refusal(stub.GetAnalytics(pb.GetAnalyticsRequest(user_id="  ")))
    assert "not blank" in str(refused.details)


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


async def test_a_time_that_no_clock_shows_is_refused_in_words(stub: Stub) -> None:
    far = sent(sent_time=Timestamp(seconds=10**15))
    refused = await refusal(stub.RecordMessages(pb.RecordMessagesRequest(messages=[far])))
    assert refused.details == "messages[0].sent_time: is no valid time between years 1 and 9999"


async def test_a_batch_that_is_all_bad_is_still_invalid_argument(
    stub: Stub,
) -> None:
    request = pb.RecordMessagesRequest(messages=[sent("a/b", "x") for _ in range(1000)])
    refused = await refusal(stub.RecordMessages(request))
    assert refused.code is StatusCode.INVALID_ARGUMENT
    assert refused.fields[:2] == ["messages[0].message_id", "messages[0].user_id"]


async def test_a_batch_of_the_maximum_size_is_accepted(
    stub: Stub,
) -> None:
    request = pb.RecordMessagesRequest(messages=[sent() for _ in range(1000)])
    assert (await stub.RecordMessages(request)).counted == 1000


async def test_a_message_may_be_from_the_first_second_of_1970(stub: Stub) -> None:
    """Not to be confused with no time, which protobuf shows as the same."""
    request = pb.RecordMessagesRequest(messages=[sent(sent_time=Timestamp())])
    assert (await stub.RecordMessages(request)).counted == 1
    carol = (await stub.GetAnalytics(pb.GetAnalyticsRequest(user_id="carol"))).analytics
    assert carol.last_message_time == Timestamp()


@pytest.mark.parametrize("method", ["GetAnalytics", "RecordMessages"])
async def test_bytes_that_are_no_message_are_the_callers_fault(
    analytics_channel: aio.Channel, method: str
) -> None:
    path = f"/daca.analytics.v1.AnalyticsService/{method}"
    refused = await refusal(send_bytes(analytics_channel, path, b"\xff\xff\xff"))
    assert refused.code is StatusCode.INVALID_ARGUMENT


class TestOnInvoke:
    """The old REST API, as daprd calls it."""

    @pytest.fixture
    def invoke(self, analytics_channel: aio.Channel) -> Any:
        # The dapr package's stubs are untyped.
        stub: Any = appcallback_pb2_grpc.AppCallbackStub(analytics_channel)

        def invoke(method: str, verb: Any = "NONE") -> Any:
            extension = common_pb2.HTTPExtension(verb=verb)
            return stub.OnInvoke(common_pb2.InvokeRequest(method=method, http_extension=extension))

        return invoke

    @pytest.mark.parametrize("method", ["analytics/alice", "/analytics/alice"])
    async def test_answers_a_count_in_json(self, invoke: Any, method: str) -> None:
        response = await invoke(method)
        assert json.loads(response.data.value) == {"message_count": 5}
        assert response.content_type == "application/json"

    @pytest.mark.parametrize(
        ("method", "code", "reason", "details"),
        [
            ("analytics/charlie", StatusCode.NOT_FOUND, "USER_NOT_FOUND", "User not found"),
            ("analytics/", StatusCode.INVALID_ARGUMENT, "INVALID_FIELD", "user_id"),
            ("analytics/a/b", StatusCode.INVALID_ARGUMENT, "INVALID_FIELD", "user_id"),
            ("other", StatusCode.NOT_FOUND, "NO_METHOD", "No such method"),
            ("", StatusCode.NOT_FOUND, "NO_METHOD", "No such method"),
        ],
    )
    async def test_refuses_bad_methods_and_users(
        self, invoke: Any, method: str, code: StatusCode, reason: str, details: str
    ) -> None:
        refused = await refusal(invoke(method))
        assert (refused.code, refused.reasons) == (code, [f"daca/{reason}"])
        assert details in (refused.details or "")

    @pytest.mark.parametrize("verb", ["GET", "POST", "HEAD"])
    async def test_accepts_each_verb_that_only_reads(self, invoke: Any, verb: str) -> None:
        response = await invoke("analytics/alice", verb)
        assert json.loads(response.data.value) == {"message_count": 5}

    @pytest.mark.parametrize("verb", ["PUT", "PATCH", "DELETE"])
    async def test_refuses_verbs_that_change_something(self, invoke: Any, verb: str) -> None:
        refused = await refusal(invoke("analytics/alice", verb))
        assert (refused.code, refused.reasons) == (StatusCode.NOT_FOUND, ["daca/NO_METHOD"])


async def test_activity_comes_day_by_day(analytics_channel: aio.Channel) -> None:
    stub = pb_grpc.AnalyticsServiceStub(analytics_channel)
    now = Timestamp()
    now.GetCurrentTime()
    await stub.RecordMessages(pb.RecordMessagesRequest(messages=[sent("alice", sent_time=now)]))
    response = await stub.ListActivity(pb.ListActivityRequest(user_id="alice"))
    assert [day.message_count for day in response.days] == [0] * 13 + [1]
    assert response.days[-1].date == str(now.ToDatetime().date())
    response = await stub.ListActivity(pb.ListActivityRequest(user_id="alice", day_count=90))
    assert len(response.days) == 90


@pytest.mark.parametrize("day_count", [-1, 91])
async def test_a_day_count_out_of_range_is_refused_by_name(
    analytics_channel: aio.Channel, day_count: int
) -> None:
    stub = pb_grpc.AnalyticsServiceStub(analytics_channel)
    request = pb.ListActivityRequest(user_id="alice", day_count=day_count)
    assert_bad_fields(await refusal(stub.ListActivity(request)), ["day_count"])
