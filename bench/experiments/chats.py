"""`POST /chat/`, compared with the old design and with the model's answer alone."""

from functools import partial
from random import randrange
from uuid import uuid4

from bench.chart import Chart
from bench.clients import HttpClient, http_load, post
from bench.measure import (
    Sample,
    Side,
    alternate,
    at,
    closed_loop,
    median_difference,
    median_ratio,
    open_loop,
    rate,
)
from bench.report import Bar, Result, row
from bench.systems.programs import folder, model_server, pids, url
from bench.systems.stacks import USERS, Plan, old_system, our_system, services_of, user
from lab.load import percentile

_OURS, _GOING_ON = "this design", "this design, conversations of 20 turns"
_OLD, _MODEL = "the old design", "the model server alone"
_OPEN_CLIENTS = 128


def new_chat() -> bytes:
    """A user's message in a new conversation."""
    body = {"user_id": user(randrange(USERS)), "text": "Hello", "message_id": str(uuid4())}
    return post("/chat/", body)


class _GoingOn:
    """Messages that continue conversations, of 20 turns each."""

    def __init__(self) -> None:
        self._sent = 0

    def __call__(self) -> bytes:
        if self._sent % 20 == 0:
            self._user, self._session = user(randrange(USERS)), str(uuid4())
        self._sent += 1
        body = {"user_id": self._user, "text": "Hello", "metadata": {"session_id": self._session}}
        return post("/chat/", body)


def ask_model() -> bytes:
    """The agent's request to the model, without tools."""
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hello"}]
    return post("/v1/chat/completions", {"model": "bench", "messages": messages})


async def run(plan: Plan) -> Result:
    """Closed loops of both designs, then open loops of ours."""
    result = Result("chats", "POST /chat/, this design and the old one")
    result.notes.append(
        "Both with the same model server, which answers at once "
        "(`bench/systems/model_server.py`), and behind sidecars. Ours has its outbox, memory and "
        "rate limits on; the old design (`bench/systems/old_design.py`) counts and remembers "
        "nothing, and its sidecars may use all cores, as when a tutorial starts them. Each message "
        "begins a conversation, unless said otherwise."
    )
    with folder() as where, folder() as old_where:
        async with (
            model_server(where) as model,
            our_system(where, plan, model) as ours,
            old_system(old_where, plan, model) as old,
        ):
            processes = pids(services_of(ours) | {"model": model})
            old_processes = pids(old.services | {"model": model})
            peak = 0.0
            for clients in (1, 16):
                going_on = [_GoingOn() for _ in range(clients)]
                sides = [
                    Side(_OURS, partial(http_load, ours.url, [new_chat] * clients), processes),
                    Side(_OLD, partial(http_load, old.url, [new_chat] * clients), old_processes),
                    Side(_GOING_ON, partial(http_load, ours.url, going_on), processes),
                    Side(_MODEL, partial(http_load, url(model), [ask_model] * clients), processes),
                ]
                samples = await alternate(
                    sides, rounds=plan.rounds(), seconds=plan.seconds(3), warm_up_s=plan.seconds(3)
                )
                _judge(result, samples, clients)
                peak = max(peak, *(sample.rate for sample in samples[_OURS]))
            await _open(result, plan, ours.url, peak, processes)
    return result


def _judge(result: Result, samples: dict[str, list[Sample]], clients: int) -> None:
    # With one client, the limit that docs/performance.md derives.
    title = f"{clients} client{'s' if clients > 1 else ''}"
    result.tables[title] = {name: row(found) for name, found in samples.items()}
    ours, old, model = samples[_OURS], samples[_OLD], samples[_MODEL]
    faster = median_ratio(ours, old, rate)
    percent, limit = (50, 0.22) if clients == 1 else (99, 1 / 4)
    result.bars += [
        Bar(
            f"{title}: throughput of the old design's",
            faster,
            4.5 if clients == 1 else 8,
            "times",
            at_least=True,
        ),
        Bar(
            f"{title}: p{percent} of the old design's",
            median_ratio(ours, old, at(percent)),
            limit,
            "times",
        ),
    ]
    if clients == 1:
        for percent, limit_ms in ((50, 8), (99, 16)):
            added = 1e3 * median_difference(ours, model, at(percent))
            result.bars.append(
                Bar(f"{title}: p{percent} added to the model's", added, limit_ms, "ms")
            )


async def _open(
    result: Result, plan: Plan, target: str, peak: float, processes: dict[str, int]
) -> None:
    clients = [HttpClient(target, new_chat) for _ in range(_OPEN_CLIENTS)]
    # Connections are opened beforehand, as those of a browser or a proxy are.
    await closed_loop(clients[:16], 0.2)
    lines: dict[str, list[tuple[float, float]]] = {"p50": [], "p90": [], "p99": []}
    rows = {}
    for part in (30, 60, 80):
        offered = peak * part / 100
        side = Side("", partial(open_loop, clients, offered), processes)
        sample = await side.measure(plan.seconds(12) * (4 if plan.quick else 1))
        rows[f"{part} % of the peak: {offered:.0f} a second offered"] = row([sample])
        for name, line in lines.items():
            line.append((part, 1e3 * percentile(sample.latencies_s, int(name[1:]))))
    for client in clients:
        client.close()
    result.tables["This design, open loop: latencies from the intended moment"] = rows
    result.charts["chats-open"] = Chart(
        "POST /chat/ at a steady rate of arrivals", "% of the peak", "ms", lines
    )
