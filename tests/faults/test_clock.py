"""The clock is set back and forth by an hour: the time of the last message never goes back."""

import asyncio
import os
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from uuid import uuid4

import pytest
from grpc import aio

from daca.analytics.v1 import analytics_pb2 as pb
from daca.analytics.v1 import analytics_pb2_grpc as pb_grpc
from lab.stack import RunningStack, eventually, running_stack
from tests.fault_table import Report, full_only

_FAKETIME = os.environ.get("LIBFAKETIME") or next(
    (str(path) for path in Path("/usr/lib").glob("*/faketime/libfaketime.so.1")), ""
)

pytestmark = pytest.mark.skipif(
    not _FAKETIME, reason="no libfaketime (scripts/faults.sh gets it): the clock is NOT tested"
)


@pytest.mark.parametrize(
    "whose",
    [
        pytest.param("chat", marks=full_only),
        pytest.param("analytics", marks=full_only),
        "chat and analytics",
    ],
)
async def test_a_clock_that_is_set_back_does_not_move_times_back(
    tmp_path: Path, report: Report, whose: str
) -> None:
    offset = tmp_path / "offset"
    offset.write_text("+0\n")

    def set_clocks(system: RunningStack) -> None:
        for name in whose.split(" and "):
            # Only the wall clock. The monotonic clock, which timers use, can't be set.
            system.stack.services[getattr(system, name)].environment |= {
                "LD_PRELOAD": _FAKETIME,
                "FAKETIME_TIMESTAMP_FILE": str(offset),
                "FAKETIME_NO_CACHE": "1",
                "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            }

    user_id = f"clock-{uuid4().hex}"
    times: list[datetime] = []
    statuses: set[int] = set()
    shown: list[int | None] = []
    async with running_stack(tmp_path, None, set_clocks) as system:
        port = system.stack.services[system.analytics].ports["gRPC"]
        for step in ("+0", "-1h", "+1h", "-1h", "+0"):
            offset.write_text(f"{step}\n")
            await asyncio.sleep(0.05)
            status, body = await system.chat_with(user_id)
            statuses.add(status)
            shown.append(body["message_count"])
            await eventually(lambda: system.count(user_id), len(shown))
            times.append(await _last_message_time(port, user_id))
    figures = {"chats": len(shown), "statuses": statuses, "counts told": shown}
    figures["steps of the time, s"] = [round((b - a).total_seconds()) for a, b in pairwise(times)]
    told = [(count, before) for before, count in enumerate(shown) if count is not None]
    bar = {"never back": times == sorted(times)}
    bar["counts exact"] = len(told) > 1 and all(count == before for count, before in told)
    bar["no error"] = statuses == {200}
    report(f"clock of {whose} an hour back and forth", figures, bar)


async def _last_message_time(port: int, user_id: str) -> datetime:
    async with aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        stub = pb_grpc.AnalyticsServiceStub(channel)
        answer = await stub.GetAnalytics(pb.GetAnalyticsRequest(user_id=user_id), timeout=5)
        return answer.analytics.last_message_time.ToDatetime(UTC)
