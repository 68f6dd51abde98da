"""Where an app of a run file listens, and its environment."""

from collections.abc import Mapping
from dataclasses import dataclass

from scripts.lib.environments import SERVICES, kind_of, share
from scripts.lib.probes import free_port, reachable
from scripts.lib.project import StackError
from scripts.lib.run_file import App

_USES = {"http_port": "HTTP", "grpc_port": "gRPC", "metrics_port": "metrics"}


@dataclass(frozen=True)
class Place:
    environment: dict[str, str]
    ports: dict[str, int]
    """By use. For somebody else's app, only its app port, under `app`."""
    host: str = "127.0.0.1"
    """The host at which the ports are reached."""
    metrics_host: str = "127.0.0.1"
    """The host of its metrics."""


def place(
    app: App, environment: Mapping[str, str], sidecar_ports: Mapping[str, int] | None
) -> Place:
    """The app's place. `environment` is the caller's; `sidecar_ports` is None without a sidecar.
    Raises `StackError`, naming the variable, if a setting of ours is invalid."""
    kind = kind_of(app.command)
    shared = share(environment, kind)
    by_dapr = _set_by_dapr(app, sidecar_ports)
    if not kind:
        ports = {"app": app.port} if app.port else {}
        return Place(_without_dapr(shared) | by_dapr | app.environment, ports)
    # For our own apps the run file has defaults: the caller's environment wins.
    found = _without_dapr(app.environment | shared) | by_dapr
    variables = {
        use: str(SERVICES[kind].model_fields[name].validation_alias)
        for name, use in _USES.items()
        if name in SERVICES[kind].model_fields
    }
    if app.port and variables["gRPC"] not in environment:
        found[variables["gRPC"]] = str(app.port)
    try:
        settings = SERVICES[kind].from_environment(**found)
    except SystemExit as error:
        raise StackError(str(error)) from None
    ports = {}
    for name, use in _USES.items():
        if (port := getattr(settings, name, None)) is not None:
            ports[use] = port or free_port()
            found[variables[use]] = str(ports[use])
    found["DACA_ENV_FILE"] = ""  # `environment` already has what is in it
    return Place(found, ports, reachable(settings.host), reachable(settings.metrics_host))


def _set_by_dapr(app: App, sidecar_ports: Mapping[str, int] | None) -> dict[str, str]:
    """The variables that Dapr's CLI sets for an app that it starts."""
    if not sidecar_ports:
        return {}
    own = {"APP_ID": app.app_id, "APP_PROTOCOL": app.protocol}
    own |= {f"DAPR_{u.upper()}_PORT": str(sidecar_ports[u]) for u in ("HTTP", "gRPC", "metrics")}
    return own | ({"APP_PORT": str(app.port)} if app.port else {})


def _without_dapr(environment: Mapping[str, str]) -> dict[str, str]:
    """`environment` without the variables of the caller's own sidecar, if it has one."""
    own = ("APP_ID", "APP_PORT", "DAPR_HTTP_PORT", "DAPR_GRPC_PORT", "DAPR_METRICS_PORT")
    return {name: value for name, value in environment.items() if name not in own}
