"""deploy/compose/, checked without Docker: against the specification, and against the services that
it has to fit."""

import json

import pytest
from compose_spec import PyCompose

from tests.unit.deployed import (
    COMPOSE,
    DEPLOY,
    SERVICES,
    SETTINGS,
    last_words_s,
    seconds,
    variables,
)

APPS = ("chat", "analytics")


def test_the_file_fits_the_specification() -> None:
    # Through JSON: the specification's schema knows no YAML anchors.
    PyCompose.from_json(json.dumps(COMPOSE)).validate()


@pytest.mark.parametrize("app", APPS)
def test_sidecars_know_their_app(app: str) -> None:
    environment, sidecar = SERVICES[app]["environment"], SERVICES[f"{app}-sidecar"]
    arguments = dict(a.removeprefix("--").split("=", 1) for a in sidecar["command"][1:])
    assert arguments["app-id"] == f"{app}-service"
    assert arguments["app-port"] == environment[f"{app.upper()}_GRPC_PORT"]
    assert arguments["dapr-grpc-port"] == environment["DAPR_GRPC_PORT"]
    assert arguments["dapr-listen-addresses"] == "127.0.0.1"
    assert sidecar["network_mode"] == f"service:{app}"
    assert set(environment) <= variables(SETTINGS[f"{app}-service"])


@pytest.mark.parametrize("app", APPS)
def test_apps_end_before_their_sidecars_and_both_in_time(app: str) -> None:
    settings = SETTINGS[f"{app}-service"].model_fields
    needs_s = settings["drain_s"].default + settings["shutdown_grace_s"].default
    needs_s += last_words_s(app)
    sidecar = SERVICES[f"{app}-sidecar"]
    blocks_s = seconds(sidecar["command"][-1].partition("=")[2])
    assert needs_s < seconds(SERVICES[app]["stop_grace_period"])
    assert needs_s < blocks_s < seconds(sidecar["stop_grace_period"])


def test_health_checks_run_with_what_the_image_has() -> None:
    for app in APPS:
        compile(SERVICES[app]["healthcheck"]["test"][3], app, "exec")


def test_passwords_come_from_outside() -> None:
    for name, service in SERVICES.items():
        for variable, value in (service.get("environment") or {}).items():
            if "PASSWORD" in variable or "@" in value:
                assert ":?" in value, f"{name}: {variable}"


def test_ports_are_open_on_this_machine_only() -> None:
    ports = [port for service in SERVICES.values() for port in service.get("ports", [])]
    assert all(port.startswith("127.0.0.1:") for port in ports)


@pytest.mark.parametrize("name", SERVICES)
def test_containers_may_do_nothing_that_they_need_not(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert "no-new-privileges:true" in service["security_opt"]


@pytest.mark.parametrize("name", SERVICES)
def test_what_is_mounted_is_there(name: str) -> None:
    for source, _, _ in (v.partition(":") for v in SERVICES[name].get("volumes", [])):
        there = (DEPLOY / "compose" / source).exists() if "/" in source else None
        assert there is True or source in COMPOSE["volumes"]
