"""One, two and three replicas of each service on one PostgreSQL."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from functools import partial
from itertools import chain
from pathlib import Path

from bench.clients import HttpClient, clients_load
from bench.experiments.chats import new_chat
from bench.measure import Sample, Side, alternate, median_ratio, open_loop
from bench.processes import cpu_seconds
from bench.report import Bar, Result, row
from bench.systems.programs import folder, model_server, url
from bench.systems.stacks import Plan
from lab.postgres import Cluster, running_cluster
from lab.processes import Processes
from scripts.service import Service

_COUNTS = (1, 2, 3)
_PER_REPLICA = 45.0
"""Chats per second: with three replicas, two cores are busy two thirds of the time."""
_CLIENTS = 12
_OURS = ("chat", "analytics")


async def run(plan: Plan) -> Result:
    """More and more replicas: with the same load each, and with the same load for all together."""
    result = Result("replicas", "POST /chat/ by the number of replicas, on one PostgreSQL")
    result.notes.append(
        "Each chat process has an analytics process of its own; no sidecars. On one machine more "
        f"can't be faster: what counts is the CPU time of a chat. Once each replica is offered "
        f"{_PER_REPLICA:.0f} chats a second, once {_CLIENTS} clients in a closed loop are shared "
        "among the replicas. The more chats a process has at once, the less each costs: so a "
        "load that one can carry costs more on three."
    )
    with folder() as where, running_cluster(durable=True) as cluster:
        async with model_server(where) as model, AsyncExitStack() as stack:
            systems = [await _replicas(where, cluster, model, count) for count in _COUNTS]
            for system in systems:
                await stack.enter_async_context(system.running())
            each = f"{_PER_REPLICA:.0f} chats a second for each"
            shared = f"{_CLIENTS} clients for all"
            # Three replicas with the load of one cost more: fewer chats share wake-ups and commits.
            for title, load, limit in ((each, _same_each, 1.15), (shared, _same_for_all, 1.5)):
                sides = [
                    Side(str(count), partial(_counting_cpu, system, cluster, load))
                    for count, system in zip(_COUNTS, systems, strict=True)
                ]
                samples = await alternate(sides, rounds=plan.rounds(), seconds=plan.seconds(6))
                _judge(result, title, samples, limit)
    return result


def _judge(result: Result, title: str, samples: dict[str, list[Sample]], limit: float) -> None:
    result.tables[title] = {name: row(found) for name, found in samples.items()}
    grown = median_ratio(samples["3"], samples["1"], _cpu_us)
    what = f"{title}: CPU of a chat in our processes, 3 replicas of 1"
    result.bars.append(Bar(what, grown, limit, "times"))


async def _replicas(where: Path, cluster: Cluster, model: Service, count: int) -> Processes:
    logs = where / str(count)
    logs.mkdir()
    return Processes(
        logs,
        await cluster.new_database(),
        count,
        OPENAI_BASE_URL=f"{url(model)}/v1",
        CHAT_MODEL="bench",
    )


async def _same_each(replicas: Processes, seconds: float) -> Sample:
    clients = [[HttpClient(url, new_chat) for _ in range(20)] for url in replicas.urls]
    samples = await asyncio.gather(
        *(open_loop(mine, _PER_REPLICA, seconds, seed=n) for n, mine in enumerate(clients))
    )
    for client in chain(*clients):
        client.close()
    return Sample(
        list(chain(*(sample.latencies_s for sample in samples))),
        sum((sample.errors for sample in samples), Counter()),
        sum(sample.answered for sample in samples),
        seconds,
    )


async def _same_for_all(replicas: Processes, seconds: float) -> Sample:
    urls = replicas.urls
    clients = [HttpClient(urls[number % len(urls)], new_chat) for number in range(_CLIENTS)]
    return await clients_load(clients, seconds)


async def _counting_cpu(
    replicas: Processes,
    cluster: Cluster,
    load: Callable[[Processes, float], Awaitable[Sample]],
    seconds: float,
) -> Sample:
    before = _cpu_s(replicas, cluster)
    sample = await load(replicas, seconds)
    sample.cpu_s = {name: now - before[name] for name, now in _cpu_s(replicas, cluster).items()}
    return sample


def _cpu_s(replicas: Processes, cluster: Cluster) -> dict[str, float]:
    pids = {
        "chat": [service.process.pid for service in replicas.chats if service.process],
        "analytics": [service.process.pid for service in replicas.analytics if service.process],
        "PostgreSQL": cluster.pids,
    }
    return {name: sum(map(cpu_seconds, of)) for name, of in pids.items()}


def _cpu_us(sample: Sample) -> float:
    return sum(sample.cpu_us(process) for process in _OURS)
