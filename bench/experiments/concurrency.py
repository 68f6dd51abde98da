"""`POST /chat/` with 1 to 256 clients."""

from functools import partial

from bench.chart import Chart
from bench.clients import http_load
from bench.experiments.chats import new_chat
from bench.measure import Side, alternate
from bench.report import Bar, Result, row
from bench.systems.programs import folder, model_server, pids
from bench.systems.stacks import Plan, our_system, services_of

_LEVELS = (1, 2, 4, 8, 16, 32, 64, 128, 256)


async def run(plan: Plan) -> Result:
    """Closed loops of more and more clients."""
    result = Result("concurrency", "POST /chat/ by the number of clients")
    result.notes.append(
        "Who is turned away (503) waits for what `Retry-After` says, and up to half of it more, "
        "and sends another message. Rates and latencies are of the answers (200) only; the 503s "
        "are among the errors."
    )
    levels = _LEVELS[::2] if plan.quick else _LEVELS
    with folder() as where:
        async with model_server(where) as model, our_system(where, plan, model) as ours:
            processes = pids(services_of(ours) | {"model": model})
            sides = [
                Side(str(n), partial(http_load, ours.url, [new_chat] * n), processes)
                for n in levels
            ]
            # Longer than Retry-After, so that clients that were refused try again.
            samples = await alternate(sides, rounds=plan.rounds(3), seconds=4 * plan.seconds(1))
    rows = {clients: row(found) for clients, found in samples.items()}
    result.tables["By clients"] = rows
    rates = {int(clients): float(found["a second"]) for clients, found in rows.items()}
    kept = 100 * rates[levels[-1]] / max(rates.values())
    what = f"throughput with {levels[-1]} clients, of its peak"
    result.bars.append(Bar(what, kept, 90, "%", at_least=True))
    result.charts["concurrency-rate"] = Chart(
        "POST /chat/ by clients", "clients", "chats/s",
        {"chats a second": sorted(rates.items())}, log_x=True,
    )  # fmt: skip
    lines = {
        name: [(n, float(rows[str(n)][f"{name} ms"])) for n in levels] for name in ("p50", "p99")
    }
    result.charts["concurrency-latency"] = Chart(
        "POST /chat/ by clients: latency", "clients", "ms", lines, log_x=True, log_y=True
    )
    return result
