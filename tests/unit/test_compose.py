"""deploy/compose/, checked without Docker, against the Compose specification and the
services."""

import asyncio
import json
import os
import re
import shutil
import subprocess
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from compose_spec import PyCompose

from daca_shared.calls.server import GrpcServer
from daca_shared.domain import Unavailable
from daca_shared.observe.metrics import serving_metrics
from daca_shared.service import running
from daca_shared.settings import set_no_proxy
from scripts.lib.project import ROOT
from tests.fakes import listening
from tests.unit.deployed import (
    COMPOSE,
    DEPLOY,
    SERVICES,
    SETTINGS,
    documents,
    outbox_send_s,
    seconds,
    variables,
)

APPS = ("chat", "analytics")


def test_the_file_fits_the_specification() -> None:
    # Through JSON, because the specification's schema doesn't allow YAML anchors.
    PyCompose.from_json(json.dumps(COMPOSE)).validate()


@pytest.mark.parametrize("app", APPS)
def test_sidecars_know_their_app(app: str) -> None:
    environment, sidecar = SERVICES[app]["environment"], SERVICES[f"{app}-sidecar"]
    arguments = dict(a.removeprefix("--").split("=", 1) for a in sidecar["command"][1:])
    assert arguments["app-id"] == f"{app}-service"
    assert arguments["app-port"] == environment[f"{app.upper()}_GRPC_PORT"]
    assert arguments["dapr-grpc-port"] == environment["DAPR_GRPC_PORT"]
    assert arguments["dapr-listen-addresses"] == "127.0.0.1"
    assert sidecar["network_mode"] == SERVICES[app]["network_mode"] == f"service:{app}-network"
    assert SERVICES[f"{app}-network"]["networks"] == {"daca": {"aliases": [app]}}
    assert set(environment) - {"no_proxy"} <= variables(SETTINGS[f"{app}-service"])


@pytest.mark.parametrize("app", APPS)
def test_all_that_can_be_set_reaches_the_containers(app: str) -> None:
    settable = ("AUTH_", "CHAT_", "GEMINI_", "OPENAI_", "DACA_LOG_", "DACA_TRACE_", "OTEL_TRACES_")
    named = {name for name in variables(SETTINGS[f"{app}-service"]) if name.startswith(settable)}
    assert named <= set(SERVICES[app]["environment"])


@pytest.mark.parametrize("app", APPS)
def test_apps_end_before_their_sidecars_and_in_time(app: str) -> None:
    settings = SETTINGS[f"{app}-service"].model_fields
    needs_s = settings["drain_s"].default + settings["shutdown_grace_s"].default
    needs_s += outbox_send_s(app)
    assert needs_s < seconds(SERVICES[app]["stop_grace_period"])
    # Compose stops services before those that they depend on.
    assert f"{app}-sidecar" in SERVICES[app]["depends_on"]
    assert {f"{app}-network", "jaeger"} <= set(SERVICES[f"{app}-sidecar"]["depends_on"])


def test_chat_starts_also_if_analytics_can_not() -> None:
    # Compose doesn't start a service that depends on an unhealthy one.
    assert SERVICES["chat"]["depends_on"]["analytics"] == {"condition": "service_started"}


@pytest.mark.parametrize("app", APPS)
def test_a_stop_is_heeded_while_an_app_starts(app: str) -> None:
    # Process 1 ignores signals that it doesn't handle yet.
    assert SERVICES[app]["init"] is True


@pytest.mark.parametrize("app", APPS)
def test_calls_within_the_system_bypass_dockers_proxies(app: str) -> None:
    assert SERVICES[f"{app}-sidecar"]["environment"]["NO_PROXY"] == "*"
    ours = SERVICES[app]["environment"]
    dockers = {"NO_PROXY": "models.example", "no_proxy": "models.example"}
    joined = dockers | ours
    set_no_proxy(joined)
    receiver = urlsplit(ours["OTEL_EXPORTER_OTLP_ENDPOINT"]).hostname
    assert {"models.example", receiver} <= set(joined["NO_PROXY"].split(","))


@pytest.mark.parametrize("app", APPS)
@pytest.mark.parametrize(("is_ready", "code"), [(True, 0), (False, 1)])
async def test_health_checks_use_the_metrics(app: str, is_ready: bool, code: int) -> None:
    async def check() -> None:
        if not is_ready:
            raise Unavailable("no")

    server = GrpcServer()
    async with listening(server), running(partial(server.watch, check)):
        await asyncio.sleep(0.1)
        variable = f"{app.upper()}_METRICS_PORT"
        with serving_metrics(SETTINGS[f"{app}-service"](), 0, variable) as port:
            command = [part.replace("$$", "$") for part in SERVICES[app]["healthcheck"]["test"][1:]]
            environment = os.environ | {variable: str(port)}
            found = await asyncio.create_subprocess_exec(*command, env=environment)
            assert await found.wait() == code


def test_jaeger_keeps_as_many_traces_as_beside_a_local_stack() -> None:
    [local] = documents(DEPLOY / "local/jaeger.yaml")
    memory = local["extensions"]["jaeger_storage"]["backends"]["memory"]["memory"]
    [argument] = SERVICES["jaeger"]["command"]
    assert argument.endswith(f".memory.max_traces={memory['max_traces']}")


def test_passwords_come_from_outside() -> None:
    for name, service in SERVICES.items():
        for variable, value in (service.get("environment") or {}).items():
            if "PASSWORD" in variable or "@" in value:
                assert ":?" in value, f"{name}: {variable}"


def test_ports_are_open_on_this_machine_only() -> None:
    ports = [port for service in SERVICES.values() for port in service.get("ports", [])]
    assert all(port.startswith("127.0.0.1:") for port in ports)


@pytest.mark.parametrize("app", APPS)
def test_an_upgrade_of_the_apps_leaves_their_network(app: str) -> None:
    assert SERVICES[f"{app}-network"]["image"] != SERVICES[app]["image"]


@pytest.mark.parametrize("name", SERVICES)
def test_logs_are_rotated(name: str) -> None:
    assert SERVICES[name]["logging"] == {"driver": "local"}


@pytest.mark.parametrize("name", SERVICES)
def test_containers_have_only_the_rights_that_they_need(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert "no-new-privileges:true" in service["security_opt"]


def test_the_documented_command_lets_all_containers_read_what_is_mounted(tmp_path: Path) -> None:
    folder = tmp_path / "deploy"
    shutil.copytree(DEPLOY, folder)
    passwords = folder / "compose/.env"
    passwords.touch()
    for path in folder.rglob("*"):
        path.chmod(path.stat().st_mode & 0o700)
    documented = " ".join((ROOT / "docs/deployment.md").read_text().split())
    [command] = re.findall(r"`(find deploy/[^`]+)`", documented)
    subprocess.run(["bash", "-c", command], cwd=tmp_path, check=True)
    volumes = [volume for service in SERVICES.values() for volume in service.get("volumes", [])]
    sources = [folder / "compose" / v.partition(":")[0] for v in volumes if v.startswith(".")]
    mounted = {file.resolve() for source in sources for file in (source, *source.rglob("*"))}
    assert mounted
    assert all(file.stat().st_mode & 0o004 for file in mounted)
    assert passwords.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("name", SERVICES)
def test_mounted_files_exist(name: str) -> None:
    for source, _, _ in (v.partition(":") for v in SERVICES[name].get("volumes", [])):
        there = (DEPLOY / "compose" / source).exists() if "/" in source else None
        assert there is True or source in COMPOSE["volumes"]
