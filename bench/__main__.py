"""`python -m bench [--quick] [NAME]...`, through scripts/bench.sh, which gets what it needs."""

import argparse
import asyncio
import os
import signal
import time
from pathlib import Path

import uvloop

from bench.experiments import chats, concurrency, lookups, memory, records, replicas, streams, users
from bench.processes import load_average, machine
from bench.report import Result, write_summary
from bench.stacks import Lab

EXPERIMENTS = {
    "chats": chats.run,
    "streams": streams.run,
    "concurrency": concurrency.run,
    "lookups": lookups.run,
    "records": records.run,
    "users": users.run,
    "memory": memory.run,
    "replicas": replicas.run,
}


async def _run(names: list[str], lab: Lab, into: Path) -> list[Result]:
    # Ended from outside, we still end what we have started.
    task = asyncio.current_task()
    assert task  # noqa: S101
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    results = []
    for name in names:
        began, load = time.monotonic(), load_average()
        result = await EXPERIMENTS[name](lab)
        result.seconds = time.monotonic() - began
        result.load_average = load, load_average()
        result.quick, result.machine = lab.quick, machine()
        print(result.markdown(), flush=True)
        result.write(into)
        write_summary(into, machine(), list(EXPERIMENTS))
        results.append(result)
    return results


def main() -> None:
    """Measure, print, write; say at the end which bars were missed."""
    parser = argparse.ArgumentParser(prog="scripts/bench.sh", description="Measure, and judge.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(EXPERIMENTS))
    parser.add_argument("--quick", action="store_true", help="shorter and rougher")
    parser.add_argument("--into", type=Path, default=Path("bench/results"), help="where to write")
    given = parser.parse_args()
    if unknown := set(given.names) - set(EXPERIMENTS):
        parser.error(f"no such experiment: {', '.join(sorted(unknown))}")
    caller = os.environ.get("BENCH_CALLER")
    lab = Lab(Path(os.environ["DAPRD"]), Path(caller) if caller else None, given.quick)
    given.into.mkdir(parents=True, exist_ok=True)
    results = uvloop.run(_run(given.names or list(EXPERIMENTS), lab, given.into))
    for result in results:
        for bar in result.bars:
            verdict = bar.row()
            print(f"{'ok    ' if bar.met else 'MISSED'} {result.name}: {bar.what}: "
                  f"{verdict['measured']} ({verdict['bar']})")  # fmt: skip


if __name__ == "__main__":
    main()
