"""Memory and CPU of each process: idle, after load, and with a thousand streams open."""

import asyncio
from collections import Counter
from random import randrange

from bench.clients import HttpClient, StreamConnection, http_load, post
from bench.experiments.chats import new_chat
from bench.measure import Failed
from bench.processes import cpu_seconds
from bench.report import Bar, Result
from bench.systems.model_server import SLOWLY
from bench.systems.programs import folder, memory, model_server, pids
from bench.systems.stacks import USERS, Plan, our_system, services_of, user

_STREAMS = 1000
_STEADY_S = 6.0
# At a higher rate, new streams would be refused.
_OPENED_A_SECOND = 40


def _slow_stream() -> bytes:
    body = {"user_id": user(randrange(USERS)), "text": f"Tell me {SLOWLY}"}
    return post("/chat/stream", body)


async def run(plan: Plan) -> Result:
    """One chat process holds all streams. In each, the model says a word every three seconds."""
    result = Result("memory", "Memory and CPU by process")
    result.notes.append(
        f"RSS in MB. {_STREAMS:,} open streams get a word every three seconds each; CPU, in % of a "
        f"core, is of {_STEADY_S:.0f} s of that."
    )
    with folder() as where:
        async with model_server(where) as model, our_system(where, plan, model) as ours:
            services = services_of(ours) | {"model": model}
            idle = memory(services)
            await http_load(ours.url, [new_chat] * 16, plan.seconds(10) * (3 if plan.quick else 1))
            loaded = memory(services)
            clients = [
                HttpClient(ours.url, _slow_stream, StreamConnection) for _ in range(_STREAMS)
            ]
            refused: Counter[str] = Counter()
            tasks = [
                asyncio.create_task(_keep_open(number, client, refused))
                for number, client in enumerate(clients)
            ]
            await asyncio.sleep(_STREAMS / _OPENED_A_SECOND + 5)
            open_streams = [client.has_text for client in clients].count(True)
            before = {name: cpu_seconds(pid) for name, pid in pids(services).items()}
            await asyncio.sleep(_STEADY_S)
            streaming = memory(services)
            cpu = {
                name: 100 * (cpu_seconds(pid) - before[name]) / _STEADY_S
                for name, pid in pids(services).items()
            }
            for task, client in zip(tasks, clients, strict=True):
                task.cancel()
                client.close()
            await asyncio.gather(*tasks, return_exceptions=True)
    rows = {
        name: {
            "idle": idle[name],
            "after load": loaded[name],
            "streaming": streaming[name],
            "CPU %, streaming": cpu[name],
        }
        for name in services
    }
    result.tables["By process"] = {**rows, "generator": {"CPU %, streaming": cpu["generator"]}}
    result.notes.append(f"{refused.total()} attempts to open one were refused, and made again.")
    result.bars += [
        Bar("streams open at once", open_streams, _STREAMS, at_least=True),
        Bar("RSS of chat with them", streaming["chat"], 400, "MB"),
    ]
    return result


async def _keep_open(number: int, client: HttpClient, refused: Counter[str]) -> None:
    """Keep stream `number` open. They start one after another."""
    await asyncio.sleep(number / _OPENED_A_SECOND)
    while True:
        try:
            await client()
        except Failed as failure:
            refused[str(failure)] += 1
            await asyncio.sleep(failure.wait_s)
