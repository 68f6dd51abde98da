"""`POST /chat/stream`: time to the first text, compared with the model server's own."""

from functools import partial
from random import randrange

from bench.clients import StreamConnection, http_load, post
from bench.measure import Side, alternate, at, median_difference
from bench.report import Bar, Result, row
from bench.systems.programs import folder, model_server, pids, url
from bench.systems.stacks import USERS, Plan, our_system, services_of, user

_OURS, _MODEL = "this design", "the model server alone"


def _new_stream() -> bytes:
    return post("/chat/stream", {"user_id": user(randrange(USERS)), "text": "Hello"})


def _ask_model() -> bytes:
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hello"}]
    return post("/v1/chat/completions", {"model": "bench", "messages": messages, "stream": True})


async def run(plan: Plan) -> Result:
    """Each client reads its stream to the end. The latency is the time to the first text."""
    result = Result("streams", "POST /chat/stream, the first text")
    result.notes.append("Latencies are until the first text; rates are of whole streams.")
    with folder() as where:
        async with model_server(where) as model, our_system(where, plan, model) as ours:
            processes = pids(services_of(ours) | {"model": model})
            for clients in (1, 16):
                load = partial(http_load, kind=StreamConnection)
                new, ask = [_new_stream] * clients, [_ask_model] * clients
                sides = [
                    Side(_OURS, partial(load, ours.url, new), processes),
                    Side(_MODEL, partial(load, url(model), ask), processes),
                ]
                samples = await alternate(sides, rounds=plan.rounds(), seconds=plan.seconds())
                title = f"{clients} client{'s' if clients > 1 else ''}"
                result.tables[title] = {name: row(found) for name, found in samples.items()}
                if clients == 1:
                    added = median_difference(samples[_OURS], samples[_MODEL], at(50))
                    what = f"{title}: p50 of the first text, added to the model's"
                    result.bars.append(Bar(what, 1e3 * added, 8, "ms"))
    return result
