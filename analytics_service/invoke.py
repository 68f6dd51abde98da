"""The old REST face of analytics, for callers of Dapr's HTTP invoke API: a sidecar's
`GET /v1.0/invoke/analytics-service/method/analytics/{user_id}`, and
`dapr invoke --method analytics/{user_id}`, reach a gRPC app as `AppCallback.OnInvoke`."""

import json
from dataclasses import dataclass

from dapr.proto.common.v1 import common_pb2
from dapr.proto.runtime.v1 import appcallback_pb2_grpc
from google.protobuf.any_pb2 import Any as AnyMessage

from analytics_service.servicer import parse_user_id
from analytics_service.store import AnalyticsStore
from daca_shared.calls.errors import Context
from daca_shared.domain import NotFound

_PREFIX = "analytics/"


@dataclass(eq=False)
class InvokeServicer(appcallback_pb2_grpc.AppCallbackServicer):
    """`AppCallback.OnInvoke` for the one method `analytics/{user_id}`."""

    store: AnalyticsStore

    async def OnInvoke(
        self, request: common_pb2.InvokeRequest, context: Context
    ) -> common_pb2.InvokeResponse:
        """`{"message_count": n}`; daprd makes 404 of NOT_FOUND, 400 of INVALID_ARGUMENT."""
        method = request.method.removeprefix("/")
        if not method.startswith(_PREFIX):
            raise NotFound(f"No such method; there is {_PREFIX}{{user_id}}", code="NO_METHOD")
        analytics = await self.store.get(parse_user_id(method.removeprefix(_PREFIX)))
        body = json.dumps({"message_count": analytics.message_count}).encode()
        return common_pb2.InvokeResponse(
            data=AnyMessage(value=body), content_type="application/json"
        )
