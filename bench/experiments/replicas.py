"""One replica of each service on a PostgreSQL, beside two and three."""

from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path

from bench.clients import HttpClient, clients_load
from bench.experiments.chats import new_chat
from bench.measure import Sample, Side, alternate, median_ratio
from bench.processes import cpu_seconds
from bench.report import Bar, Result, row
from bench.stacks import Lab, folder, model_server, url
from scripts.service import Service
from tests.postgres import Cluster, running_cluster
from tests.replicas.processes import Processes

_COUNTS = (1, 2, 3)
_CLIENTS = 12
_OURS = ("chat", "analytics")


async def run(lab: Lab) -> Result:
    """The same load, on ever more replicas."""
    result = Result("replicas", "POST /chat/ by the number of replicas, on one PostgreSQL")
    result.notes.append(
        f"{_CLIENTS} clients, shared among the chat processes, each of which has an analytics "
        "process of its own; no sidecars. On one machine more can't be faster: what counts "
        "is the CPU time of a chat."
    )
    with folder() as where, running_cluster() as cluster:
        async with model_server(where) as model, AsyncExitStack() as stack:
            sides = []
            for count in _COUNTS:
                replicas = await _replicas(where, cluster, model, count)
                await stack.enter_async_context(replicas.running())
                sides.append(Side(str(count), partial(_load, replicas, cluster)))
            samples = await alternate(sides, rounds=lab.rounds(), seconds=lab.seconds(3))
    result.tables["By replicas"] = {name: row(found) for name, found in samples.items()}
    grown = median_ratio(samples["3"], samples["1"], _cpu_us)
    result.bars.append(Bar("CPU of a chat in our processes, 3 replicas of 1", grown, 1.15, "times"))
    return result


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


async def _load(replicas: Processes, cluster: Cluster, seconds: float) -> Sample:
    before = _cpu_s(replicas, cluster)
    urls = replicas.urls
    clients = [HttpClient(urls[number % len(urls)], new_chat) for number in range(_CLIENTS)]
    sample = await clients_load(clients, seconds)
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
