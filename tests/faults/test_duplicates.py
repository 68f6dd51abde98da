"""Ids that are sent many times count once: from concurrent senders, through sidecars that retry
while analytics crashes, and through chat itself."""

import asyncio
import time
from contextlib import suppress
from datetime import UTC, datetime
from uuid import uuid4

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from grpc import aio

from daca.analytics.v1 import analytics_pb2 as pb
from daca.analytics.v1 import analytics_pb2_grpc as pb_grpc
from lab.connection import Connection, chat_request
from lab.stack import RunningStack
from tests.fault_table import FULL, Report
from tests.faults.conftest import (
    count_of,
    counts_are_turns,
    database,
    kill,
    stored_messages,
    supervised,
)

pytestmark = pytest.mark.asyncio(loop_scope="session")

_SENDERS = 8
_TIMES = 1000 if FULL else 200
_IDS = 50


async def test_the_same_batch_a_thousand_times_counts_once(
    system: RunningStack, report: Report
) -> None:
    user_id = f"twice-{uuid4().hex}"
    now = Timestamp()
    now.FromDatetime(datetime.now(UTC))
    request = pb.RecordMessagesRequest()
    for _ in range(_IDS):
        request.messages.add(message_id=str(uuid4()), user_id=user_id, sent_time=now)
    metadata = (("dapr-app-id", system.analytics),)
    taken = failed = 0
    deadline = time.monotonic() + 60

    async def send(channel: aio.Channel) -> None:
        nonlocal taken, failed
        stub: pb_grpc.AnalyticsServiceAsyncStub = pb_grpc.AnalyticsServiceStub(channel)
        while taken < _TIMES and time.monotonic() < deadline:
            try:
                await stub.RecordMessages(request, timeout=5, metadata=metadata)
                taken += 1
            except aio.AioRpcError:
                failed += 1
                await asyncio.sleep(0.02)

    sidecar = system.sidecar_port(system.chat, "gRPC")
    async with (
        supervised(system),
        aio.insecure_channel(f"127.0.0.1:{sidecar}") as channel,
        asyncio.TaskGroup() as group,
    ):
        for _ in range(_SENDERS):
            group.create_task(send(channel))
        while taken < _TIMES // 3:
            await asyncio.sleep(0.01)
        await kill([system.stack.services[system.analytics]])
    port = system.stack.services[system.analytics].ports["gRPC"]
    counted = await count_of(f"127.0.0.1:{port}", {user_id})
    stored = stored_messages(database(system, system.analytics, "analytics.db"), user_id)
    figures = {"batches": taken, "failed": failed, "ids": _IDS, "stored": stored}
    figures["counted"] = counted
    bar = {"each id counts once": counted == stored == _IDS, "all taken": taken >= _TIMES}
    report(f"{_TIMES} times the same batch, {_SENDERS} senders, a kill", figures, bar)


async def test_one_chat_from_many_clients_at_once_counts_once(
    system: RunningStack, report: Report
) -> None:
    user_id, message_id = f"echo-{uuid4().hex}", str(uuid4())
    statuses: set[int] = set()

    async def send() -> None:
        connection = await Connection.open(system.url)
        for _ in range(_TIMES // 10 // _SENDERS):
            with suppress(ConnectionResetError):
                answer = await connection.send(chat_request(user_id, message_id), 15)
                statuses.add(answer.status)
        connection.close()

    await asyncio.gather(*(send() for _ in range(_SENDERS)))
    same = await counts_are_turns(system, user_id)
    stored = stored_messages(database(system, system.analytics, "analytics.db"), user_id)
    port = system.stack.services[system.analytics].ports["gRPC"]
    counted = await count_of(f"127.0.0.1:{port}", {user_id})
    figures = {"statuses": statuses, "stored": stored, "counted": counted}
    report(
        "one message id from 8 clients", figures, {"counts once": counted == stored == 1 and same}
    )
