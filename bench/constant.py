"""What `GetAnalytics` could cost at the least in Python: a bare grpc.aio server on uvloop that
keeps nothing and checks nothing. `python -m bench.constant PORT`."""

import sys

import grpc
import uvloop
from grpc import aio

from daca.analytics.v1 import analytics_pb2 as pb

_SERVICE = pb.DESCRIPTOR.services_by_name["AnalyticsService"].full_name


async def _answer(request: pb.GetAnalyticsRequest, context: object) -> pb.GetAnalyticsResponse:
    analytics = pb.UserAnalytics(user_id=request.user_id, message_count=5)
    return pb.GetAnalyticsResponse(analytics=analytics)


async def _serve(port: int) -> None:
    server = aio.server(options=[("grpc.so_reuseport", 0)])
    handler = grpc.unary_unary_rpc_method_handler(
        _answer,
        request_deserializer=pb.GetAnalyticsRequest.FromString,
        response_serializer=pb.GetAnalyticsResponse.SerializeToString,
    )
    methods = {"GetAnalytics": handler}
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(_SERVICE, methods)])
    server.add_registered_method_handlers(_SERVICE, methods)
    server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    await server.wait_for_termination()


if __name__ == "__main__":
    uvloop.run(_serve(int(sys.argv[1])))
