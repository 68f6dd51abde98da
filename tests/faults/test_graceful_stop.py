"""SIGTERM: health fails while requests are still answered, requests in flight are finished, and
the outbox is sent or kept."""

import asyncio
import signal
import sqlite3
import time
from contextlib import closing, suppress
from pathlib import Path

import pytest
from grpc import aio
from grpc_health.v1 import health_pb2

from lab.connection import Connection, chat_request
from lab.stack import running_stack
from tests.fault_table import Report
from tests.faults.conftest import database, health, stored_messages
from tests.model_server import Fault, model_server

_NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


async def get(url: str, path: str) -> int:
    """The status; 0 without an answer."""
    with suppress(OSError):
        connection = await Connection.open(url)
        try:
            request = f"GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n".encode()
            return (await connection.send(request, 2)).status
        finally:
            connection.close()
    return 0


async def test_sigterm_flips_health_first_and_finishes_what_is_in_flight(
    tmp_path: Path, report: Report, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with model_server() as model:
        monkeypatch.setenv("OPENAI_BASE_URL", model.url)
        monkeypatch.setenv("CHAT_MODEL", "m")
        async with running_stack(tmp_path, None) as system:
            chat = system.stack.services[system.chat]
            model.faults = [Fault(delay_s=2)]
            model.go.clear()
            reply = await Connection.open(system.url)
            stream = await Connection.open(system.url)
            replying = asyncio.create_task(
                reply.send(chat_request("u", "6f1ed002-ab58-42a6-a3a0-4c9d0a3f4ab1"), 15)
            )
            await asyncio.sleep(0.3)
            request = chat_request("u2", "6f1ed002-ab58-42a6-a3a0-4c9d0a3f4ab2")
            streaming = asyncio.create_task(
                stream.read_to_end(request.replace(b"/chat/ ", b"/chat/stream "), 15)
            )
            await asyncio.sleep(0.3)

            chat.signal(signal.SIGTERM)
            began = time.monotonic()
            while (ready := await get(system.url, "/readyz")) == 200:
                assert time.monotonic() - began < 5, "/readyz still says 200"
                await asyncio.sleep(0.01)
            unready_s = time.monotonic() - began
            alive = await get(system.url, "/users/u")
            try:
                grpc_health = await health(chat.ports["gRPC"])
            except aio.AioRpcError as error:
                grpc_health = str(error.code())  # type: ignore[assignment]
            model.go.set()
            answer, streamed = await asyncio.gather(replying, streaming)
            assert chat.process
            code = await asyncio.wait_for(chat.process.wait(), 15)
            counted = stored_messages(database(system, system.analytics, "analytics.db"), "u")
            with closing(sqlite3.connect(database(system, system.chat, "chat.db"))) as db:
                (waiting,) = db.execute("SELECT count(*) FROM outbox").fetchone()
    figures = {"unready after s": unready_s, "/readyz": ready, "request while draining": alive}
    figures |= {"grpc health": grpc_health, "reply in flight": answer.status, "exit code": code}
    figures |= {"stream completed": b"event: completed" in streamed}
    figures |= {"counted": counted, "left in the outbox": waiting}
    bar = {
        "health flips while requests are answered": (ready, alive, grpc_health)
        == (503, 200, _NOT_SERVING),
        "what is in flight ends": answer.status == 200 and b"event: completed" in streamed,
        "the outbox is sent or kept": counted + waiting == 2,
        "exit code 0": code == 0,
    }
    report("SIGTERM with requests in flight", figures, bar)
