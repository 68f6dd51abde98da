"""The files in deploy/, parsed for their tests."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from analytics_service.settings import AnalyticsSettings
from chat_service.outbox.outbox import Outbox
from chat_service.settings import ChatSettings
from daca_shared.settings import ServiceSettings
from scripts.lib.project import ROOT

DEPLOY = ROOT / "deploy"
BASE = DEPLOY / "kubernetes/base"
OVERLAY = DEPLOY / "kubernetes/overlays/example"
SETTINGS: dict[str, type[ServiceSettings]] = {
    "chat-service": ChatSettings,
    "analytics-service": AnalyticsSettings,
}

type Manifest = dict[str, Any]


def documents(path: Path) -> list[Manifest]:
    return [document for document in yaml.safe_load_all(path.read_text()) if document]


def render(folder: Path) -> Iterator[Manifest]:
    """What kustomize renders from a folder with only resources and a namespace."""
    [kustomization] = documents(folder / "kustomization.yaml")
    assert set(kustomization) == {"apiVersion", "kind", "namespace", "resources"}
    for name in kustomization["resources"]:
        for manifest in documents(folder / name):
            if manifest["kind"] != "Namespace":
                manifest["metadata"]["namespace"] = kustomization["namespace"]
            yield manifest


MANIFESTS = list(render(BASE))
OVERLAY_KUSTOMIZATION = documents(OVERLAY / "kustomization.yaml")[0]
COMPOSE = documents(DEPLOY / "compose/compose.yaml")[0]
SERVICES: dict[str, Manifest] = COMPOSE["services"]


def name_of(manifest: Manifest) -> str:
    return f"{manifest['kind']}/{manifest['metadata']['name']}"


def find(kind: str, name: str) -> Manifest:
    [manifest] = [m for m in MANIFESTS if name_of(m) == f"{kind}/{name}"]
    return manifest


def pod_of(app: str) -> Manifest:
    pod: Manifest = find("Deployment", app)["spec"]["template"]
    return pod


def container_of(app: str) -> Manifest:
    [container] = pod_of(app)["spec"]["containers"]
    assert isinstance(container, dict)
    return container


def environment_of(app: str) -> dict[str, str | None]:
    return {entry["name"]: entry.get("value") for entry in container_of(app)["env"]}


def variables(settings: type[ServiceSettings]) -> set[str]:
    return {str(field.validation_alias) for field in settings.model_fields.values()}


def seconds(duration: str) -> float:
    return float(duration.removesuffix("s"))


def outbox_send_s(app: str) -> float:
    """How long a stopping app may send its outbox, after the grace period for requests."""
    return Outbox.last_send_s if app.startswith("chat") else 0
