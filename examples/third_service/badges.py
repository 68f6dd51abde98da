"""A third service that gives each user a badge for their message count. It asks analytics for the
count through its own sidecar. Others call it over HTTP, through their sidecars."""

import json
import os
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

import grpc

from daca.analytics.v1.analytics_pb2 import GetAnalyticsRequest
from daca.analytics.v1.analytics_pb2_grpc import AnalyticsServiceStub

_TIMEOUT_S = 2
_BADGES = {100: "gold", 5: "silver", 0: "bronze"}


class Badges(BaseHTTPRequestHandler):
    # One channel for all requests. The sidecar may start later than this service.
    analytics = AnalyticsServiceStub(
        grpc.insecure_channel(f"127.0.0.1:{os.environ['DAPR_GRPC_PORT']}")
    )

    def do_GET(self) -> None:
        folder, _, user_id = urlsplit(self.path).path.removeprefix("/").partition("/")
        if folder != "badges" or not user_id:
            return self._answer(HTTPStatus.NOT_FOUND, {"detail": "Ask for /badges/{user_id}"})
        try:
            answer = self.analytics.GetAnalytics(
                GetAnalyticsRequest(user_id=unquote(user_id)),
                timeout=_TIMEOUT_S,
                # This is all that a caller has to know of Dapr.
                metadata=(("dapr-app-id", "analytics-service"),),
            )
        except grpc.RpcError as error:
            if error.code() is grpc.StatusCode.INVALID_ARGUMENT:
                return self._answer(HTTPStatus.BAD_REQUEST, {"detail": str(error.details())})
            if error.code() is not grpc.StatusCode.NOT_FOUND:
                detail = {"detail": f"Analytics does not answer ({error.code().name})"}
                return self._answer(HTTPStatus.SERVICE_UNAVAILABLE, detail)
            count = 0
        else:
            count = answer.analytics.message_count
        badge = next(badge for least, badge in _BADGES.items() if count >= least)
        return self._answer(HTTPStatus.OK, {"user_id": unquote(user_id), "badge": badge})

    def _answer(self, status: HTTPStatus, body: dict[str, str]) -> None:
        content = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


if __name__ == "__main__":
    ThreadingHTTPServer(("127.0.0.1", int(os.environ["APP_PORT"])), Badges).serve_forever()
