"""Clients that never finish their requests don't slow down others."""

import asyncio
import statistics
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

import pytest

from lab.load import load, percentile
from lab.stack import RunningStack
from tests.fault_table import FULL, Report

pytestmark = pytest.mark.asyncio(loop_scope="session")

_IDLE = 500
_ROUNDS, _ROUND_S = (6, 4.0) if FULL else (1, 0.5)
_HALF = (
    b"POST /chat/ HTTP/1.1\r\nhost: te",
    b"POST /chat/ HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
    b'content-length: 500\r\n\r\n{"user_id": "slow",',
)


@asynccontextmanager
async def slow_clients(url: str) -> AsyncIterator[None]:
    parts = urlsplit(url)
    opened = []
    for n in range(_IDLE):
        _, writer = await asyncio.open_connection(parts.hostname, parts.port)
        writer.write(_HALF[n % 2])
        opened.append(writer)
    await asyncio.sleep(0.2)
    try:
        yield
    finally:
        for writer in opened:
            writer.transport.abort()
        await asyncio.sleep(0.2)


async def latency_s(url: str) -> tuple[float, int]:
    # Few clients, as at peak load the tail latency is due to the load itself.
    async with load(url, clients=4) as running:
        await asyncio.sleep(_ROUND_S)
    return percentile(running.latencies_s, 99), running.failed()


async def test_half_open_requests_do_not_slow_the_others(
    system: RunningStack, report: Report
) -> None:
    await latency_s(system.url)
    alone, beside = [], []
    failed = 0
    for _ in range(_ROUNDS):
        # The mean of the rounds before and after cancels out drift.
        alone.append((await latency_s(system.url))[0])
        async with slow_clients(system.url):
            latency, failures = await latency_s(system.url)
            beside.append(latency)
            failed += failures
    normal, slowed = statistics.median(alone), statistics.median(beside)
    figures = {"p99 alone s": normal, "beside 500": slowed, "failed": failed}
    # A chat that waits for half-open requests to end fails: its client gives up sooner than chat.
    bar = {"none failed": failed == 0}
    speed = {"p99 within twice the normal": slowed <= 2 * normal}
    report("500 half-open requests", figures, bar, speed)
