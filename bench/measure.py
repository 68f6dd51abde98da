"""Loads, closed and open, and what can be said of their figures."""

import asyncio
import random
import statistics
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field

from bench.processes import cpu_seconds
from lab.load import percentile

type Call = Callable[[], Awaitable[float]]
"""One request: returns its latency in seconds, or raises `Failed`."""
type Load = Callable[[float], Awaitable["Sample"]]
"""A load of so many seconds."""

type Figure = Callable[["Sample"], float]
"""What is read from a sample."""


class Failed(Exception):
    """A request that was not answered well; its text is the code to count it under."""

    def __init__(self, code: str, wait_s: float = 0) -> None:
        super().__init__(code)
        self.wait_s = wait_s
        """How long the server asks us to wait."""


@dataclass
class Sample:
    """What one stretch of load saw."""

    latencies_s: list[float] = field(default_factory=list)
    errors: Counter[str] = field(default_factory=Counter)
    answered: int = 0
    """How many were answered well within `seconds`; the latencies are also those of the rest."""
    seconds: float = 0
    cpu_s: dict[str, float] = field(default_factory=dict)
    """By process."""
    units: float = 1
    """What one request stands for: messages, say."""

    @property
    def rate(self) -> float:
        """Units a second, of requests that were answered well."""
        return self.answered * self.units / self.seconds

    def cpu_us(self, process: str) -> float:
        """CPU time of a process for each unit."""
        return 1e6 * self.cpu_s.get(process, 0) / max(1, len(self.latencies_s) * self.units)


@dataclass(frozen=True)
class Side:
    """One of the things that are compared."""

    name: str
    load: Load
    pids: Mapping[str, int] = field(default_factory=dict)
    """The processes whose CPU time it uses."""

    async def measure(self, seconds: float) -> Sample:
        """One stretch, with the CPU time of the processes."""
        before = {name: cpu_seconds(pid) for name, pid in self.pids.items()}
        sample = await self.load(seconds)
        for name, pid in self.pids.items():
            # A generator that is another process knows its own.
            sample.cpu_s.setdefault(name, cpu_seconds(pid) - before[name])
        return sample


async def alternate(
    sides: Sequence[Side], *, rounds: int, seconds: float, warm_up_s: float = 1.0
) -> dict[str, list[Sample]]:
    """Each side once a round, every other round backwards (ABBA), so that what drifts drifts
    for all."""
    for side in sides:
        await side.load(warm_up_s)
    samples: dict[str, list[Sample]] = {side.name: [] for side in sides}
    for number in range(rounds):
        for side in sides if number % 2 == 0 else reversed(sides):
            samples[side.name].append(await side.measure(seconds))
    return samples


async def closed_loop(calls: Sequence[Call], seconds: float) -> Sample:
    """Each client sends its next request when the last one is answered."""
    sample = Sample(seconds=seconds)
    end = time.perf_counter() + seconds

    async def client(call: Call) -> None:
        while (left_s := end - time.perf_counter()) > 0:
            try:
                sample.latencies_s.append(await call())
                sample.answered += time.perf_counter() < end
            except Failed as failure:
                sample.errors[str(failure)] += 1
                # Not all at the same moment again.
                wait_s = failure.wait_s * random.uniform(1, 1.5)  # noqa: S311
                await asyncio.sleep(min(wait_s, left_s))

    await asyncio.gather(*(client(call) for call in calls))
    return sample


async def open_loop(calls: Sequence[Call], rate: float, seconds: float, *, seed: int = 1) -> Sample:
    """Requests at random moments, `rate` a second, whether the last are answered or not.

    Latencies count from the moment that was meant for the request: a stall of the server, or
    of ourselves, counts against every request that it delays.
    """
    sample = Sample(seconds=seconds)
    free: asyncio.LifoQueue[Call] = asyncio.LifoQueue()
    for call in calls:
        free.put_nowait(call)
    arrivals = random.Random(seed)  # noqa: S311
    began = time.perf_counter()

    async def one(due: float) -> None:
        call = await free.get()
        try:
            await call()
            ended = time.perf_counter()
            sample.latencies_s.append(ended - due)
            sample.answered += ended < began + seconds
        except Failed as failure:
            sample.errors[str(failure)] += 1
        finally:
            free.put_nowait(call)

    due = began
    async with asyncio.TaskGroup() as group:
        while (due := due + arrivals.expovariate(rate)) < began + seconds:
            if (early := due - time.perf_counter()) > 0:
                await asyncio.sleep(early)
            group.create_task(one(due))
    return sample


def ratios(ours: Sequence[Sample], theirs: Sequence[Sample], figure: Figure) -> list[float]:
    """Our figure by theirs, in each round."""
    pairs = [(figure(a), figure(b)) for a, b in zip(ours, theirs, strict=True)]
    # A side that answered nothing in some round has no ratio there.
    return [a / b if b else float("nan") for a, b in pairs]


def median_ratio(ours: Sequence[Sample], theirs: Sequence[Sample], figure: Figure) -> float:
    """The median, over the rounds, of our figure by theirs."""
    return statistics.median(ratios(ours, theirs, figure))


def median_difference(ours: Sequence[Sample], theirs: Sequence[Sample], figure: Figure) -> float:
    """The median, over the rounds, of our figure less theirs."""
    return statistics.median([figure(a) - figure(b) for a, b in zip(ours, theirs, strict=True)])


def at(percent: float) -> Figure:
    """The figure: a percentile of a sample's latencies, in seconds."""
    return lambda sample: percentile(sample.latencies_s, percent)


def rate(sample: Sample) -> float:
    """The figure: units a second."""
    return sample.rate


def first_text_ms(sample: Sample) -> float:
    """The figure: the median latency of a stream, which is its first text's, in milliseconds."""
    return 1e3 * percentile(sample.latencies_s, 50)


def cpu_ms(*processes: str) -> Figure:
    """The figure: the CPU time of these for each unit, in milliseconds."""
    return lambda sample: sum(sample.cpu_us(process) for process in processes) / 1e3
