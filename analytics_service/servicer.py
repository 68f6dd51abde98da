"""The gRPC API of the analytics service: decode, call the store, encode."""

import json
from dataclasses import dataclass
from typing import Annotated

from dapr.proto.common.v1 import common_pb2
from dapr.proto.runtime.v1 import appcallback_pb2_grpc
from google.protobuf.any_pb2 import Any as AnyMessage
from pydantic import BaseModel, Field

from analytics_service.store import MAX_BATCH, AnalyticsStore, MessageBatch
from daca.analytics.v1 import analytics_pb2 as pb
from daca.analytics.v1 import analytics_pb2_grpc as pb_grpc
from daca_shared.calls.errors import Context
from daca_shared.domain import FOREIGN_SITES, Forbidden, InvalidInput, NotFound, UserId, validated
from daca_shared.observe.requests import note_user

_DEFAULT_DAYS, _MAX_DAYS = 14, 90
_INVOKED = "analytics/"
_Verb = common_pb2.HTTPExtension
_READING = {_Verb.NONE, _Verb.GET, _Verb.HEAD, _Verb.POST}  # the last is the Dapr CLI's default


class _Query(BaseModel):
    user_id: UserId
    day_count: Annotated[int, Field(ge=0, le=_MAX_DAYS)] = 0


@dataclass(eq=False)
class AnalyticsServicer(pb_grpc.AnalyticsServiceServicer, appcallback_pb2_grpc.AppCallbackServicer):
    store: AnalyticsStore

    async def GetAnalytics(
        self, request: pb.GetAnalyticsRequest, context: Context
    ) -> pb.GetAnalyticsResponse:
        analytics = await self.store.get(_query(request.user_id).user_id)
        return pb.GetAnalyticsResponse(analytics=pb.UserAnalytics(**vars(analytics)))

    async def ListActivity(
        self, request: pb.ListActivityRequest, context: Context
    ) -> pb.ListActivityResponse:
        query = _query(request.user_id, request.day_count)
        counts = await self.store.activity(query.user_id, query.day_count or _DEFAULT_DAYS)
        days = [pb.DailyActivity(date=str(day), message_count=n) for day, n in counts.items()]
        return pb.ListActivityResponse(days=days)

    async def RecordMessages(
        self, request: pb.RecordMessagesRequest, context: Context
    ) -> pb.RecordMessagesResponse:
        # Before any message is decoded.
        if not 1 <= len(request.messages) <= MAX_BATCH:
            raise InvalidInput.field("messages", f"must be 1 to {MAX_BATCH} messages")
        # Only the fields that were given: read as an attribute, a missing time would be 1970.
        sent = [{field.name: value for field, value in m.ListFields()} for m in request.messages]
        counted = await self.store.record(validated(MessageBatch, {"messages": sent}))
        return pb.RecordMessagesResponse(counted=counted)

    async def OnInvoke(
        self, request: common_pb2.InvokeRequest, context: Context
    ) -> common_pb2.InvokeResponse:
        """The old REST API, for callers of Dapr's HTTP invoke API: this is how a sidecar's
        `GET /v1.0/invoke/analytics-service/method/analytics/{user_id}`, and
        `dapr invoke --method analytics/{user_id}`, reach a gRPC app. The answer is
        `{"message_count": n}`; daprd turns NOT_FOUND into 404, and INVALID_ARGUMENT into 400."""
        method, verb = request.method.removeprefix("/"), request.http_extension.verb
        if not method.startswith(_INVOKED) or verb not in _READING:
            raise NotFound(f"No such method; there is {_INVOKED}{{user_id}}", code="NO_METHOD")
        if dict(context.invocation_metadata() or ()).get("sec-fetch-site") in FOREIGN_SITES:
            raise Forbidden("Pages of other origins get no answer", code="FOREIGN_ORIGIN")
        analytics = await self.store.get(_query(method.removeprefix(_INVOKED)).user_id)
        body = AnyMessage(value=json.dumps({"message_count": analytics.message_count}).encode())
        return common_pb2.InvokeResponse(data=body, content_type="application/json")


def _query(user_id: str, day_count: int = 0) -> _Query:
    """Whose analytics, and of how many days. Raises `InvalidInput`."""
    query = validated(_Query, {"user_id": user_id, "day_count": day_count})
    note_user(query.user_id)
    return query
