"""More chats than the system can handle: the excess is refused at once, the rest is answered."""

import asyncio
import time
from collections import Counter
from pathlib import Path
from uuid import uuid4

import pytest
import uvloop

from lab.connection import Answer, Connection, chat_request
from lab.load import load, percentile
from lab.stack import RunningStack
from scripts.service import Service
from tests.fault_table import FULL, Report

pytestmark = pytest.mark.asyncio(loop_scope="session")

_PEAK_S, _OVERLOAD_S = (5.0, 12.0) if FULL else (1.0, 2.0)


class OpenLoop:
    """Sends chats at a fixed rate, whether or not the earlier ones are answered."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._idle: list[Connection] = []
        self.statuses: Counter[str] = Counter()
        self.refused_s: list[float] = []
        self.accepted_s: list[float] = []
        self.without_retry_after = 0
        self.accepted_at: list[float] = []

    async def run(self, rate: float, duration_s: float) -> None:
        """Send chats, and wait for every answer."""
        began = time.monotonic()
        async with asyncio.TaskGroup() as group:
            sent = 0
            while (passed := time.monotonic() - began) < duration_s:
                # The rate rises in the first second, as when many come at once but not together.
                for _ in range(int(passed * rate * min(1, passed)) - sent):
                    group.create_task(self._chat())
                    sent += 1
                await asyncio.sleep(0.002)
        for connection in self._idle:
            connection.close()

    async def _chat(self) -> None:
        began = time.monotonic()
        try:
            open_ones = (self._idle.pop() for _ in range(len(self._idle)))
            connection = next((c for c in open_ones if c.is_open), None)
            connection = connection or await Connection.open(self._url)
            began = time.monotonic()
            answer = await connection.send(chat_request(f"peak-{uuid4()}", str(uuid4())), 30)
        except OSError as error:
            self.statuses[type(error).__name__] += 1
            return
        self._idle.append(connection)
        self._note(answer, time.monotonic() - began)

    def _note(self, answer: Answer, took_s: float) -> None:
        self.statuses[str(answer.status)] += 1
        if answer.status == 200:
            self.accepted_s.append(took_s)
            self.accepted_at.append(time.monotonic())
        else:
            self.refused_s.append(took_s)
            self.without_retry_after += b"\r\nretry-after: " not in answer.head.lower()


def rss_mb(service: Service) -> float:
    assert service.process
    status = Path(f"/proc/{service.process.pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) / 1024


async def test_the_excess_of_three_times_the_peak_is_refused_at_once(
    system: RunningStack, report: Report
) -> None:
    chat, analytics = (system.stack.services[n] for n in (system.chat, system.analytics))
    async with load(system.url) as running:
        await asyncio.sleep(1)
        before, began = len(running.accepted), time.monotonic()
        await asyncio.sleep(_PEAK_S)
        peak = (len(running.accepted) - before) / (time.monotonic() - began)
    memory = [rss_mb(chat), rss_mb(analytics)]
    flood = OpenLoop(system.url)
    began = time.monotonic()
    # On uvloop, because the flood's clients share the cores with the system.
    await asyncio.to_thread(uvloop.run, flood.run(3 * peak, _OVERLOAD_S))
    # Divided by the time until the last one ended: a backlog must not count as goodput.
    goodput = len(flood.accepted_at) / max(_OVERLOAD_S, flood.accepted_at[-1] - began)
    growth = [rss_mb(chat) - memory[0], rss_mb(analytics) - memory[1]]
    await asyncio.sleep(1)
    after, _ = await system.chat_with("after-the-flood")
    refused_s = flood.refused_s or [float("inf")]
    figures = {"peak 1/s": peak, "goodput": goodput / peak, "answers": dict(flood.statuses)}
    figures |= {"refused p50 s": percentile(refused_s, 50), "p99": percentile(refused_s, 99)}
    figures |= {"accepted p99 s": percentile(flood.accepted_s, 99), "growth MB": max(growth)}
    figures |= {"without Retry-After": flood.without_retry_after, "after": after}
    bar = {
        "the excess gets 429 or 503 with Retry-After": set(flood.statuses) <= {"200", "429", "503"}
        and flood.without_retry_after == 0,
        "growth under 100 MB": max(growth) < 100,
        "serves after": after == 200,
    }
    speed = {
        "refused within 250 ms (p99)": percentile(refused_s, 99) <= 0.25,
        "accepted within 3 s (p99)": percentile(flood.accepted_s, 99) <= 3,
        "goodput over 80 %": goodput >= 0.8 * peak,
    }
    report("three times the peak", figures, bar, speed)


async def test_a_burst_of_256_on_an_idle_service_is_answered(
    system: RunningStack, report: Report
) -> None:
    await asyncio.sleep(2)  # idle
    url = system.url
    connections = await asyncio.gather(*(Connection.open(url) for _ in range(256)))
    began = time.monotonic()
    answers = await asyncio.gather(
        *(c.send(chat_request(f"burst-{uuid4()}", str(uuid4())), 30) for c in connections)
    )
    statuses = Counter(answer.status for answer in answers)
    for connection in connections:
        connection.close()
    figures = {"answers": dict(statuses), "all within s": time.monotonic() - began}
    report("256 chats at once", figures, {"none refused": statuses == {200: 256}})
