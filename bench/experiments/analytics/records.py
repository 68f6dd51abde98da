"""`RecordMessages` by batch size, durable, through the sidecars."""

import time
from functools import partial

from bench.chart import Chart
from bench.measure import Sample, Side, alternate, closed_loop
from bench.report import Bar, Result, row
from bench.systems.programs import folder, pids
from bench.systems.stacks import Plan, entries, our_system, services_of
from chat_service.outbox.analytics import AnalyticsClient
from daca_shared.calls.sidecar import Peer

_SIZES = (1, 10, 100, 500, 1000)


async def run(plan: Plan) -> Result:
    """One sender, chat's own client, which sends a batch once the last one is acknowledged."""
    result = Result("records", "RecordMessages by batch size")
    result.notes.append(
        "One sender, in Python, through two sidecars; a second's figures are of messages, the "
        "latencies of batches. What is acknowledged has been flushed to disk."
    )
    with folder() as where:
        async with our_system(where, plan) as system:
            proxy = f"127.0.0.1:{system.sidecar_port(system.chat, 'gRPC')}"
            client = AnalyticsClient(Peer(proxy, (("dapr-app-id", system.analytics),)))
            services = services_of(system)
            del services["chat"]
            processes = pids(services)
            sides = [Side(str(size), partial(_load, client, size), processes) for size in _SIZES]
            samples = await alternate(sides, rounds=plan.rounds(5), seconds=plan.seconds())
            await client.close()
    rows = {size: row(found) for size, found in samples.items()}
    result.tables["By batch size"] = rows
    rates = {int(size): float(found["a second"]) for size, found in rows.items()}
    result.bars.append(
        Bar("messages a second, the best batch size", max(rates.values()), 5000, at_least=True)
    )
    result.charts["records"] = Chart(
        "RecordMessages, one sender", "messages a batch", "messages/s",
        {"messages a second": sorted(rates.items())}, log_x=True, log_y=True,
    )  # fmt: skip
    return result


async def _load(client: AnalyticsClient, size: int, seconds: float) -> Sample:
    async def call() -> float:
        batch = entries(size)
        began = time.perf_counter()
        await client.record(batch)
        return time.perf_counter() - began

    sample = await closed_loop([call], seconds)
    sample.units = size
    return sample
