"""What `scripts/status.sh` prints: which processes are up, and what chat reports."""

import signal

if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C ends it at once, without a traceback

import argparse
import asyncio
import sys
from pathlib import Path
from typing import Any

from grpc import RpcError
from grpc_health.v1 import health_pb2, health_pb2_grpc

from daca_shared.addresses import address
from daca_shared.calls.sidecar import Peer
from scripts.lib import probes
from scripts.lib.project import ROOT, StackError, say
from scripts.lib.run_file import read_run_file
from scripts.lib.settings import RunnerSettings, path_given
from scripts.running.claim import recorded
from scripts.stack import Stack

_TIMEOUT_S = 3.0
_OK, _WANTS_A_TOKEN = 200, (401, 403)
type _Services = dict[str, dict[str, Any]]
"""What runs, by name: each with its `host`, its `ports` by use, and whether it `is_sidecar`."""


async def processes(services: _Services) -> list[tuple[str, str | None]]:
    """Each process and its state; None if it is down."""
    return [(name, await _process(**service)) for name, service in services.items()]


async def _process(host: str, ports: dict[str, int], *, is_sidecar: bool) -> str | None:
    if is_sidecar:
        return await asyncio.to_thread(_sidecar, ports)
    if "gRPC" in ports:
        health = await _grpc_health(host, ports["gRPC"])
        return f"gRPC {ports['gRPC']} {health}" if health else None
    ups = [f"{use} {port}" for use, port in ports.items() if await probes.listens(host, port)]
    return (", ".join(ups) or "has no port to ask") if len(ups) == len(ports) else None


def _sidecar(ports: dict[str, int]) -> str | None:
    url = f"http://127.0.0.1:{ports['HTTP']}/v1.0"
    # Only its own health: the app is asked directly, as daprd reports one on IPv6 as down.
    status, _ = probes.get(f"{url}/healthz/outbound")
    if not (_OK <= status < _OK + 100 or status in _WANTS_A_TOKEN):
        return None
    _, metadata = probes.get(f"{url}/metadata")
    version = metadata.get("runtimeVersion", "?") if isinstance(metadata, dict) else "?"
    return f"daprd {version}, HTTP {ports['HTTP']}, gRPC {ports['gRPC']}"


async def _grpc_health(host: str, port: int) -> str | None:
    """What the app's standard health service says; None if it doesn't answer."""
    async with Peer(address(host, port)).channel() as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)
        try:
            answer = await stub.Check(health_pb2.HealthCheckRequest(), timeout=_TIMEOUT_S)
        except RpcError:
            return None
    return str(health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status))


def describe(status: dict[str, Any]) -> list[tuple[str, str]]:
    """What chat reports about itself and analytics, in words."""
    call = status["analytics_last_call"]
    last = f"{call['method']} at {call['time']}: {call['outcome']}" if call else "none yet"
    return [
        ("version", f"{status['version']}, up for {status['uptime_s']} s"),
        ("model", status["model"]),
        ("analytics", f"{status['analytics']}; asked {status['analytics_way']}"),
        ("last call to it", last),
        ("outbox", status["outbox"]),
        ("chats", f"{status['chats']} under way, {status['chats_turned_away']} turned away"),
        ("event loop", f"late by {status['event_loop_lag_ms']} ms"),
    ]


def what_runs(run_file: Path | None) -> _Services:
    """The processes of the running scripts/run.sh. If there is none, or a file is given: those that
    the file and the environment describe."""
    data_dir = RunnerSettings.from_environment().data_dir
    if run_file is None and (found := recorded(data_dir).get("services")):
        return dict(found)
    path = run_file or ROOT / "dapr.yaml"
    places = Stack(path, daprd=Path("daprd"), log_dir=data_dir).places()
    # Ports that the file doesn't set are different in each run.
    unknown = [app.app_id for app in read_run_file(path).apps if "HTTP" not in app.sidecar_ports]
    hidden = {name for app_id in unknown for name in (app_id, f"{app_id}-sidecar")}
    return {name: place for name, place in places.items() if name not in hidden}


def main() -> None:
    """See `scripts/status.sh --help`. Exit code 1 unless all serve and chat reaches analytics."""
    parser = argparse.ArgumentParser(prog="scripts/status.sh", description="What is up?")
    parser.add_argument(
        "--run-file", type=path_given, help="default: what scripts/run.sh runs, or else dapr.yaml"
    )
    try:
        services = what_runs(parser.parse_args().run_file)
    except StackError as error:
        sys.exit(f"scripts/status.sh: {error}")
    # Only chat among the apps has an HTTP port.
    chats = [s for s in services.values() if "HTTP" in s["ports"] and not s["is_sidecar"]]
    where = ", ".join(address(chat["host"], chat["ports"]["HTTP"]) for chat in chats[:1])
    code, answer = probes.get(f"http://{where}/status")
    status = answer if code == _OK and isinstance(answer, dict) and "outbox" in answer else None
    rows = asyncio.run(processes(services))
    # If the stack runs without sidecars, they are not missing.
    if status and status["analytics_way"].startswith("directly"):
        rows = [(name, how) for name, how in rows if not services[name]["is_sidecar"]]
    lines = [(name, how or "DOWN") for name, how in rows]
    what = f"the answer {code} and no status" if code else "no answer"
    lines += describe(status) if status else [("gateway", f"DOWN: {what} at {where}")]
    width = max(len(name) for name, _ in lines)
    for name, how in lines:
        say(f"{name.ljust(width)}  {how}")
    # An app that can't reach its database answers, but doesn't serve.
    are_up = all(how and not how.endswith("NOT_SERVING") for _, how in rows)
    sys.exit(0 if status and status["analytics"] == "ok" and are_up else 1)


if __name__ == "__main__":
    main()
