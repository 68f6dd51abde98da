"""Closed and open loops of load, and statistics of their figures."""

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
"""Sends one request. Returns its latency in seconds, or raises `Failed`."""
type Load = Callable[[float], Awaitable["Sample"]]
"""Runs a load for so many seconds."""

type Figure = Callable[["Sample"], float]
"""Reads one figure from a sample."""


class Failed(Exception):
    """A request that failed. The text is the error code under which it is counted."""

    def __init__(self, code: str, wait_s: float = 0) -> None:
        super().__init__(code)
        self.wait_s = wait_s
        """How long the server asks us to wait before a retry."""


@dataclass
class Sample:
    """The outcome of one period of load."""

    latencies_s: list[float] = field(default_factory=list)
    errors: Counter[str] = field(default_factory=Counter)
    answered: int = 0
    """How many succeeded within `seconds`. The latencies include those that succeeded later."""
    seconds: float = 0
    cpu_s: dict[str, float] = field(default_factory=dict)
    """CPU time by process."""
    units: float = 1
    """How many units, such as messages, one request stands for."""

    @property
    def rate(self) -> float:
        """Units per second, of successful requests."""
        return self.answered * self.units / self.seconds

    def cpu_us(self, process: str) -> float:
        """CPU time of a process per unit."""
        return 1e6 * self.cpu_s.get(process, 0) / max(1, len(self.latencies_s) * self.units)


@dataclass(frozen=True)
class Side:
    """One side of a comparison."""

    name: str
    load: Load
    pids: Mapping[str, int] = field(default_factory=dict)
    """The processes whose CPU time counts."""

    async def measure(self, seconds: float) -> Sample:
        """Run one period of load, and measure the CPU time of the processes."""
        before = {name: cpu_seconds(pid) for name, pid in self.pids.items()}
        sample = await self.load(seconds)
        for name, pid in self.pids.items():
            # A load generator in another process has reported its own.
            sample.cpu_s.setdefault(name, cpu_seconds(pid) - before[name])
        return sample


async def alternate(
    sides: Sequence[Side], *, rounds: int, seconds: float, warm_up_s: float = 1.0
) -> dict[str, list[Sample]]:
    """Measure each side once per round, every other round in reverse order (ABBA), so that drift
    affects all sides alike."""
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
                # Random, so that clients don't all retry at the same moment.
                wait_s = failure.wait_s * random.uniform(1, 1.5)  # noqa: S311
                await asyncio.sleep(min(wait_s, left_s))

    await asyncio.gather(*(client(call) for call in calls))
    return sample


async def open_loop(calls: Sequence[Call], rate: float, seconds: float, *, seed: int = 1) -> Sample:
    """Requests at random moments, `rate` per second, whether earlier ones are answered or not.

    Latencies count from the moment at which a request was due. So a stall of the server, or
    of this process, counts for every request that it delays.
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
    """Our figure divided by theirs, in each round."""
    pairs = [(figure(a), figure(b)) for a, b in zip(ours, theirs, strict=True)]
    # No ratio for a round in which the other side answered nothing.
    return [a / b if b else float("nan") for a, b in pairs]


def median_ratio(ours: Sequence[Sample], theirs: Sequence[Sample], figure: Figure) -> float:
    """The median, over the rounds, of our figure divided by theirs."""
    return statistics.median(ratios(ours, theirs, figure))


def median_difference(ours: Sequence[Sample], theirs: Sequence[Sample], figure: Figure) -> float:
    """The median, over the rounds, of our figure minus theirs."""
    return statistics.median([figure(a) - figure(b) for a, b in zip(ours, theirs, strict=True)])


def at(percent: float) -> Figure:
    """A percentile of a sample's latencies, in seconds, as a figure."""
    return lambda sample: percentile(sample.latencies_s, percent)


def rate(sample: Sample) -> float:
    """Units per second, as a figure."""
    return sample.rate


def first_text_ms(sample: Sample) -> float:
    """The median time to a stream's first text in milliseconds, as a figure."""
    return 1e3 * percentile(sample.latencies_s, 50)


def cpu_ms(*processes: str) -> Figure:
    """The CPU time of these processes per unit in milliseconds, as a figure."""
    return lambda sample: sum(sample.cpu_us(process) for process in processes) / 1e3
