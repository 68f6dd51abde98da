"""`python -m bench [--quick] [NAME]...`, through scripts/bench.sh, which installs what it needs."""

import argparse
import asyncio
import os
import signal
import time
from pathlib import Path

import uvloop

from bench.experiments import (
    chats,
    concurrency,
    floor,
    memory,
    replicas,
    streams,
    versions,
)
from bench.experiments.analytics import lookups, records, users
from bench.processes import load_average, machine
from bench.report import Result, write_summary
from bench.systems.stacks import Plan
from scripts.lib.settings import path_given

EXPERIMENTS = {
    "chats": chats.run,
    "streams": streams.run,
    "concurrency": concurrency.run,
    "lookups": lookups.run,
    "records": records.run,
    "users": users.run,
    "memory": memory.run,
    "replicas": replicas.run,
    "floor": floor.run,
    "versions": versions.run,
}
# The experiment that needs a second worktree runs only when named, and isn't in the summary.
USUAL = [name for name in EXPERIMENTS if name != "versions"]


async def _run(names: list[str], plan: Plan, into: Path) -> list[Result]:
    # After SIGTERM, we still stop the processes that we have started.
    task = asyncio.current_task()
    assert task  # noqa: S101
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    results = []
    for name in names:
        began, load = time.monotonic(), load_average()
        result = await EXPERIMENTS[name](plan)
        result.seconds = time.monotonic() - began
        result.load_average = load, load_average()
        result.quick, result.machine = plan.quick, machine()
        print(result.markdown(), flush=True)
        result.write(into)
        if name in USUAL:
            write_summary(into, result.machine, USUAL)
        results.append(result)
    return results


def main() -> None:
    """Measure, print and write the results, and say at the end which bars were missed."""
    parser = argparse.ArgumentParser(prog="scripts/bench.sh", description="Measure, and judge.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(EXPERIMENTS))
    parser.add_argument("--quick", action="store_true", help="shorter and rougher")
    parser.add_argument("--rounds", type=int, help="how often each side is measured")
    into = Path("bench/results")
    parser.add_argument("--into", type=path_given, default=into, help="where to write")
    compared = "the version that `versions` compares with"
    parser.add_argument("--against", type=path_given, metavar="WORKTREE", help=compared)
    parser.add_argument("--direct", action="store_true", help="`versions` without sidecars")
    given = parser.parse_args()
    if unknown := set(given.names) - set(EXPERIMENTS):
        parser.error(f"no such experiment: {', '.join(sorted(unknown))}")
    if "versions" in given.names and not (given.against and given.against.is_dir()):
        parser.error("versions: --against must name another version's worktree")
    caller = os.environ.get("BENCH_CALLER")
    plan = Plan(
        Path(os.environ["DAPRD"]),
        Path(caller) if caller else None,
        given.quick,
        given.against and given.against.resolve(),
        given.direct,
        given.rounds,
    )
    given.into.mkdir(parents=True, exist_ok=True)
    results = uvloop.run(_run(given.names or USUAL, plan, given.into))
    for result in results:
        for bar in result.bars:
            verdict = bar.row()
            print(f"{'ok    ' if bar.met else 'MISSED'} {result.name}: {bar.what}: "
                  f"{verdict['measured']} ({verdict['bar']})")  # fmt: skip


if __name__ == "__main__":
    main()
