"""The gRPC API of the analytics service: decode, call the store, encode."""

import json
from dataclasses import dataclass
from datetime import UTC, datetime

from dapr.proto.common.v1 import common_pb2
from dapr.proto.runtime.v1 import appcallback_pb2_grpc
from google.protobuf.any_pb2 import Any as AnyMessage
from pydantic import TypeAdapter, ValidationError

from analytics_service.store import MAX_BATCH, AnalyticsStore, MessageBatch
from daca.analytics.v1 import analytics_pb2 as pb
from daca.analytics.v1 import analytics_pb2_grpc as pb_grpc
from daca_shared.calls.errors import Context
from daca_shared.domain import InvalidInput, NotFound, UserId, validated
from daca_shared.observe.requests import note_user

_DEFAULT_DAYS, _MAX_DAYS = 14, 90
_INVOKED = "analytics/"
_check_user_id = TypeAdapter(UserId).validate_python


@dataclass(eq=False)
class AnalyticsServicer(pb_grpc.AnalyticsServiceServicer, appcallback_pb2_grpc.AppCallbackServicer):
    store: AnalyticsStore

    async def GetAnalytics(
        self, request: pb.GetAnalyticsRequest, context: Context
    ) -> pb.GetAnalyticsResponse:
        analytics = await self.store.get(_parse_user_id(request.user_id))
        return pb.GetAnalyticsResponse(analytics=pb.UserAnalytics(**vars(analytics)))

    async def ListActivity(
        self, request: pb.ListActivityRequest, context: Context
    ) -> pb.ListActivityResponse:
        if not 0 <= request.day_count <= _MAX_DAYS:
            raise InvalidInput.field("day_count", f"must be 0 to {_MAX_DAYS}")
        user_id = _parse_user_id(request.user_id)
        counts = await self.store.activity(user_id, request.day_count or _DEFAULT_DAYS)
        days = [pb.DailyActivity(date=str(day), message_count=n) for day, n in counts.items()]
        return pb.ListActivityResponse(days=days)

    async def RecordMessages(
        self, request: pb.RecordMessagesRequest, context: Context
    ) -> pb.RecordMessagesResponse:
        counted = await self.store.record(_decode_batch(request))
        return pb.RecordMessagesResponse(counted=counted)

    async def OnInvoke(
        self, request: common_pb2.InvokeRequest, context: Context
    ) -> common_pb2.InvokeResponse:
        """The old REST face, for callers of Dapr's HTTP invoke API: a sidecar's
        `GET /v1.0/invoke/analytics-service/method/analytics/{user_id}`, and
        `dapr invoke --method analytics/{user_id}`, reach a gRPC app so. The answer is
        `{"message_count": n}`; daprd makes 404 of NOT_FOUND, 400 of INVALID_ARGUMENT."""
        method = request.method.removeprefix("/")
        if not method.startswith(_INVOKED):
            raise NotFound(f"No such method; there is {_INVOKED}{{user_id}}", code="NO_METHOD")
        analytics = await self.store.get(_parse_user_id(method.removeprefix(_INVOKED)))
        body = AnyMessage(value=json.dumps({"message_count": analytics.message_count}).encode())
        return common_pb2.InvokeResponse(data=body, content_type="application/json")


def _parse_user_id(user_id: str) -> str:
    """Returns a valid user id. Raises `InvalidInput`, naming the field."""
    try:
        valid = _check_user_id(user_id)
    except ValidationError as error:
        raise InvalidInput.field("user_id", error.errors()[0]["msg"]) from None
    note_user(valid)
    return valid


def _decode_batch(request: pb.RecordMessagesRequest) -> MessageBatch:
    # Before any message is decoded.
    if not 1 <= len(request.messages) <= MAX_BATCH:
        raise InvalidInput.field("messages", f"must be 1 to {MAX_BATCH} messages")
    messages = [
        {"message_id": m.message_id, "user_id": m.user_id, "sent_time": _decode_time(m, index)}
        for index, m in enumerate(request.messages)
    ]
    return validated(MessageBatch, {"messages": messages})


def _decode_time(message: pb.SentMessage, index: int) -> datetime:
    try:
        if message.HasField("sent_time"):
            return message.sent_time.ToDatetime(UTC)
        problem = "is required"
    except (ValueError, OverflowError):
        problem = "is no valid time between years 1 and 9999"
    raise InvalidInput.field(f"messages[{index}].sent_time", problem)
