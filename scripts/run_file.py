"""What a Dapr run file says of one app: its environment, and its sidecar."""

import os
from pathlib import Path
from typing import Any

from scripts.service import ROOT


def app_environment(app: dict[str, Any], *, sidecar: bool) -> dict[str, str]:
    """The environment of the app's process, with a sidecar of its own or without."""
    # The run file's values are defaults: the caller's environment wins, except that the
    # gRPC port has to be the one that the sidecar knows.
    own: dict[str, str] = app["env"]
    environment = {**own, **os.environ}
    environment |= {name: value for name, value in own.items() if name.endswith("_GRPC_PORT")}
    for name in ("DAPR_GRPC_PORT", "DAPR_HTTP_PORT"):
        environment.pop(name, None)
    if not sidecar:
        environment.pop("APP_API_TOKEN", None)  # a sidecar would bring it
    else:
        environment["DAPR_GRPC_PORT"] = str(app["daprGRPCPort"])
        environment["DAPR_HTTP_PORT"] = str(app["daprHTTPPort"])
    return environment


def sidecar_environment() -> dict[str, str]:
    """The environment of a sidecar."""
    return {
        # With more, it spends a third of its CPU on passing work between threads; with one, it
        # still carries some 3,000 calls a second (ADR 0014).
        "GOMAXPROCS": "1",
        **os.environ,
        # What it tells others to reach it at: it listens nowhere else.
        "DAPR_HOST_IP": "127.0.0.1",
    }


def daprd_command(daprd: Path, common: dict[str, Any], app: dict[str, Any]) -> list[str]:
    """The command of the app's sidecar, which listens on loopback only."""
    options: dict[str, Any] = {
        "app-id": app["appID"],
        "app-port": app["appPort"],
        "app-protocol": common["appProtocol"],
        "dapr-http-port": app["daprHTTPPort"],
        "dapr-grpc-port": app["daprGRPCPort"],
        "metrics-port": app["metricsPort"],
        "dapr-listen-addresses": "127.0.0.1",
        "dapr-internal-grpc-listen-address": "127.0.0.1",
        "metrics-listen-address": "127.0.0.1",
        "config": ROOT / common["configFilePath"],
        "resources-path": ROOT / common["resourcesPaths"][0],
        "log-level": common["logLevel"],
    }
    return [str(daprd), *(part for k, v in options.items() for part in (f"--{k}", str(v)))]
