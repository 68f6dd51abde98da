"""`POST /chat/`, without sidecars, compared with the least that it could cost."""

from functools import partial

from bench.clients import http_load, messages_of
from bench.measure import Side, alternate, cpu_ms, rate
from bench.report import Result, comparison, row
from bench.systems.programs import folder, model_server, pids, python, running, url
from bench.systems.stacks import Plan
from bench.systems.versions import version
from lab.machine import free_port
from scripts.lib.project import ROOT

_FIGURES = {
    "a second": rate,
    "CPU ms of chat": cpu_ms("chat"),
    "CPU ms of chat and analytics": cpu_ms("chat", "analytics"),
}


async def run(plan: Plan) -> Result:
    """Closed loops of both, alternating."""
    result = Result("floor", "POST /chat/, beside its bare floor")
    result.notes.append(
        "No sidecars. The floor (`bench/systems/floor.py`) has the same HTTP server, a route, and "
        "the Agents SDK with the same client of the same model server. It keeps, counts, logs, "
        "measures and authorises nothing."
    )
    with folder() as where:
        async with model_server(where) as model:
            floor = python(
                "floor", free_port(), where, "bench.systems.floor",
                OPENAI_BASE_URL=f"{url(model)}/v1",
            )  # fmt: skip
            async with version(ROOT, where, model) as real, running(floor):
                for clients in (1, 16):
                    messages = [messages_of(number) for number in range(clients)]
                    sides = [
                        Side("real", partial(http_load, real.url, messages), pids(real.services)),
                        Side("floor", partial(http_load, url(floor), messages),
                             pids({"chat": floor})),
                    ]  # fmt: skip
                    samples = await alternate(sides, rounds=plan.rounds(5), seconds=plan.seconds(3))
                    title = f"{clients} client{'s' if clients > 1 else ''}"
                    result.tables[f"{title}: real and floor"] = {
                        name: comparison(samples, figure) for name, figure in _FIGURES.items()
                    }
                    result.tables[title] = {name: row(found) for name, found in samples.items()}
    return result
