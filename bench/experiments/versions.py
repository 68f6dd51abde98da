"""Two versions, this one and another worktree's: chats, streams and lookups."""

import asyncio
import subprocess
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path

from bench.clients import StreamConnection, go_load, http_load, messages_of
from bench.measure import Figure, Load, Side, alternate, cpu_ms, first_text_ms, rate
from bench.report import Result, Row, comparison, row
from bench.systems.programs import folder, model_server, pids
from bench.systems.stacks import Plan
from bench.systems.versions import Version, version
from scripts.lib.project import ROOT

type Loads = Callable[[Version], Load]

_SERVICES = ("chat", "analytics")
_SIDECARS = ("chat's sidecar", "analytics' sidecar")


async def run(plan: Plan) -> Result:
    """The same loads for both, alternating."""
    if plan.against is None:
        raise ValueError("no other version is given")
    daprd = None if plan.direct else plan.daprd
    name, way = ("versions", "two sidecars each") if daprd else ("versions-direct", "no sidecars")
    result = Result(name, f"This version (new) beside another (old), {way}")
    for side, root in (("new", ROOT), ("old", plan.against)):
        result.notes.append(f"{side}: {await asyncio.to_thread(_commit, root)}.")
    compared: dict[str, Row] = {}
    result.tables["New by old"] = compared
    with folder() as new_where, folder() as old_where:
        async with (
            model_server(new_where) as model,
            version(ROOT, new_where, model, daprd) as new,
            version(plan.against, old_where, model, daprd) as old,
        ):
            for title, load, figures in _measurements(plan):
                sides = [
                    Side(side, load(of), pids(of.services))
                    for side, of in (("new", new), ("old", old))
                ]
                samples = await alternate(sides, rounds=plan.rounds(5), seconds=plan.seconds(3))
                for figure, read in figures.items():
                    compared[f"{title}: {figure}"] = comparison(samples, read)
                result.tables[title] = {side: row(found) for side, found in samples.items()}
    return result


def _measurements(plan: Plan) -> Iterator[tuple[str, Loads, Mapping[str, Figure]]]:
    sidecars = {} if plan.direct else {"CPU ms of the sidecars": cpu_ms(*_SIDECARS)}
    chats = {
        "a second": rate,
        "CPU ms of both services": cpu_ms(*_SERVICES),
        **{f"CPU ms of {service}": cpu_ms(service) for service in _SERVICES},
        **sidecars,
    }
    lookups = {"a second": rate, "CPU ms of analytics": cpu_ms("analytics"), **sidecars}
    yield "POST /chat/, 1 client", partial(_chats, 1), chats
    yield "POST /chat/, 16 clients", partial(_chats, 16), chats
    yield "POST /chat/stream, 1 client", _streams, {"first delta, p50 ms": first_text_ms}
    if plan.caller:
        yield "GetAnalytics, 1 client", partial(_lookups, plan.caller, 1), lookups
        yield "GetAnalytics, 16 clients", partial(_lookups, plan.caller, 16), lookups


def _chats(clients: int, of: Version) -> Load:
    return partial(http_load, of.url, [messages_of(number) for number in range(clients)])


def _streams(of: Version) -> Load:
    return partial(http_load, of.url, [messages_of(0, "/chat/stream")], kind=StreamConnection)


def _lookups(caller: Path, clients: int, of: Version) -> Load:
    return partial(go_load, caller, of.analytics, app=of.analytics_app, clients=clients)


def _commit(root: Path) -> str:
    """The commit that is checked out there, and whether it has local changes."""
    command = ["git", "-C", str(root), "describe", "--always", "--dirty"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
