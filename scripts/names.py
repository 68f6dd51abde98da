"""Gives the sidecars of a stack a table in which they find each other."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from scripts.lib.run_file import listed
from scripts.service import Service
from scripts.stack import Stack


def write_names(stack: Stack, path: Path, also: Sequence[Service] = ()) -> None:
    """Write a Configuration for all of the stack's sidecars, which says where each app is, and the
    resiliency policies for calls to each. As in deploy/local, but with this stack's app ids and
    ports. `also` are other sidecars, whose apps this stack should find, too."""
    sidecars = [service for service in stack.services.values() if service.is_sidecar]
    template = "".join(
        f"{{{{if eq .ID {json.dumps(sidecar.option('--app-id'))}}}}}{_address(sidecar)}{{{{end}}}}"
        for sidecar in (*sidecars, *also)
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
    apps: dict[str, Any] = {sidecar.option("--app-id"): {} for sidecar in sidecars}
    policy = {
        "apiVersion": "dapr.io/v1alpha1",
        "kind": "Resiliency",
        "metadata": {"name": "daca-apps"},
        "spec": {"policies": {}, "targets": {"apps": apps}},
    }
    folder = path.parent / "policies"
    folder.mkdir(exist_ok=True)
    (folder / "apps.yaml").write_text(yaml.safe_dump(policy))
    for sidecar in sidecars:
        # The run file's own resources come later, and override this.
        after = sidecar.command.index("--app-id") + 2
        sidecar.command[after:after] = ["--resources-path", listed(folder)]
        # An earlier --config stays in force where this one doesn't override it.
        sidecar.command += ["--config", listed(path)]


def _address(sidecar: Service) -> str:
    port = sidecar.option("--dapr-internal-grpc-port")
    return f"{sidecar.environment['DAPR_HOST_IP']}:{port}"
