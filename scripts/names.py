"""Where the sidecars of a stack find each other: in a table of their own."""

import json
from pathlib import Path

import yaml

from scripts.service import Service
from scripts.stack import Stack


def write_names(stack: Stack, path: Path) -> None:
    """Write a Configuration for all of the stack's sidecars that says where each app is. As in
    deploy/local/config.yaml, but with this stack's app ids and ports."""
    sidecars = [service for service in stack.services.values() if service.is_sidecar]
    template = "".join(
        f"{{{{if eq .ID {json.dumps(sidecar.name.removesuffix('-sidecar'))}}}}}"
        f"{_address(sidecar)}{{{{end}}}}"
        for sidecar in sidecars
    )
    names = {"component": "kubernetes", "configuration": {"template": template}}
    configuration = {
        "apiVersion": "dapr.io/v1alpha1",
        "kind": "Configuration",
        "metadata": {"name": "daca-names"},
        "spec": {"nameResolution": names},
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(configuration))
    for sidecar in sidecars:
        # The first stays; what this one says outranks it.
        sidecar.command += ["--config", str(path)]


def _address(sidecar: Service) -> str:
    port = sidecar.command[sidecar.command.index("--dapr-internal-grpc-port") + 1]
    return f"{sidecar.environment['DAPR_HOST_IP']}:{port}"
