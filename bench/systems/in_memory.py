"""Servers that answer `GetAnalytics` from memory, for comparison with the real one.
`python -m bench.systems.in_memory bare PORT` is a bare grpc.aio server on uvloop, about the minimum
in Python; with `service` instead of `bare` it is the whole service, except for its database."""

import asyncio
import sys
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import grpc
import uvloop
from grpc import aio

from analytics_service.__main__ import build_server
from analytics_service.store import AnalyticsStore
from daca.analytics.v1 import analytics_pb2 as pb
from daca_shared.observe.logs import configure_logging
from daca_shared.storage.database import Row, Work


class InMemory:
    """A `Database` in which every user has sent 5 messages, and to which nothing is written."""

    is_shared = False

    async def read(self, statement: str, *arguments: Any) -> Sequence[Row]:
        """A user's row, whatever the statement."""
        return [(5, None)]

    async def search(self, user_id: str, statement: str, *arguments: Any) -> Sequence[Row]:
        return await self.read(statement, *arguments)

    async def write[T](self, work: Work[T]) -> T:
        raise NotImplementedError

    def time(self, stored: Any) -> datetime:
        raise NotImplementedError

    async def purge(self) -> None:
        """Nothing is deleted."""

    async def check(self) -> None:
        """Nothing can be wrong."""

    async def close(self) -> None:
        """Nothing is open."""


async def _service(port: int) -> None:
    configure_logging("INFO", secrets=())
    server = build_server(AnalyticsStore(InMemory()))
    await server.start("127.0.0.1", port, "PORT")
    await asyncio.Event().wait()


async def _answer(request: pb.GetAnalyticsRequest, context: object) -> pb.GetAnalyticsResponse:
    analytics = pb.UserAnalytics(user_id=request.user_id, message_count=5)
    return pb.GetAnalyticsResponse(analytics=analytics)


async def _bare(port: int) -> None:
    server = aio.server(options=[("grpc.so_reuseport", 0)])
    handler = grpc.unary_unary_rpc_method_handler(
        _answer,
        request_deserializer=pb.GetAnalyticsRequest.FromString,
        response_serializer=pb.GetAnalyticsResponse.SerializeToString,
    )
    service, methods = "daca.analytics.v1.AnalyticsService", {"GetAnalytics": handler}
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(service, methods)])
    server.add_registered_method_handlers(service, methods)
    server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    await server.wait_for_termination()


if __name__ == "__main__":
    uvloop.run({"bare": _bare, "service": _service}[sys.argv[1]](int(sys.argv[2])))
