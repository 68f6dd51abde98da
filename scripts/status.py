"""What `scripts/status.sh` prints: which processes are up, and how chat sees the rest."""

import argparse
import json
import os
import sys
import urllib.error
import urllib.request
from http.client import HTTPException
from pathlib import Path
from typing import Any

import grpc
import yaml
from grpc_health.v1 import health_pb2, health_pb2_grpc

from scripts.service import ROOT

_TIMEOUT_S = 3.0


def get(url: str) -> Any:
    """The JSON at `url`; None if there is none, or no answer."""
    try:
        with urllib.request.urlopen(url, timeout=_TIMEOUT_S) as answer:  # noqa: S310
            return json.loads(answer.read() or b"{}")
    except urllib.error.HTTPError as error:
        # A sidecar that wants a token is up, too.
        return {} if error.code in (401, 403) else None
    except (OSError, ValueError, HTTPException):
        return None


def grpc_health(port: int) -> str | None:
    """What the app's standard health service says; None if nothing does."""
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)
        try:
            answer = stub.Check(health_pb2.HealthCheckRequest(), timeout=_TIMEOUT_S)
        except grpc.RpcError:
            return None
    return str(health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status))


def processes(config: dict[str, Any]) -> list[tuple[str, str | None]]:
    """Each process of the run file, and how it is; None if it is not up."""
    found: list[tuple[str, str | None]] = []
    for app in config["apps"]:
        health = grpc_health(app["appPort"])
        found.append((app["appID"], health and f"gRPC {app['appPort']} {health}"))
        sidecar = f"http://127.0.0.1:{app['daprHTTPPort']}/v1.0"
        up = get(f"{sidecar}/healthz") is not None
        version = (get(f"{sidecar}/metadata") or {}).get("runtimeVersion", "?") if up else ""
        told = f"daprd {version}, HTTP {app['daprHTTPPort']}, gRPC {app['daprGRPCPort']}"
        found.append((f"{app['appID']}-sidecar", told if up else None))
    return found


def describe(status: dict[str, Any]) -> list[tuple[str, str]]:
    """What chat says of itself and of analytics, in words."""
    call = status["analytics_last_call"]
    last = "none yet"
    if call:
        last = f"{call['method']} at {call['time']}: {call['outcome']}"
    return [
        ("version", f"{status['version']}, up for {status['uptime_s']} s"),
        ("model", status["model"]),
        ("analytics", f"{status['analytics']}; asked {status['analytics_way']}"),
        ("last call to it", last),
        ("outbox", status["outbox"]),
        ("chats", f"{status['chats']} under way, {status['chats_turned_away']} turned away"),
        ("event loop", f"late by {status['event_loop_lag_ms']} ms"),
    ]


def main() -> None:
    """See `scripts/status.sh --help`. Exit code 1 if a process is down or analytics is away."""
    parser = argparse.ArgumentParser(prog="scripts/status.sh", description="What is up?")
    parser.add_argument("--run-file", type=Path, default=ROOT / "dapr.yaml")
    config = yaml.safe_load(parser.parse_args().run_file.read_text())
    http_port = next(
        os.environ.get("CHAT_HTTP_PORT", app["env"]["CHAT_HTTP_PORT"])
        for app in config["apps"]
        if "CHAT_HTTP_PORT" in app["env"]
    )
    status = get(f"http://127.0.0.1:{http_port}/status")
    rows = processes(config)
    # Without sidecars, they are not missing.
    if status and status["analytics_way"].startswith("directly"):
        rows = [(name, how) for name, how in rows if not name.endswith("-sidecar")]
    lines = [(name, how or "DOWN") for name, how in rows]
    lines += describe(status) if status else [("gateway", f"DOWN: no answer at port {http_port}")]
    width = max(len(name) for name, _ in lines)
    for name, how in lines:
        print(f"{name.ljust(width)}  {how}")
    healthy = status and status["analytics"] == "ok" and all(how for _, how in rows)
    sys.exit(0 if healthy else 1)


if __name__ == "__main__":
    main()
