"""What a Dapr run file says, read as `dapr run -f` reads it
(https://docs.dapr.io/developing-applications/local-development/multi-app-dapr-run/)."""

import csv
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from scripts.lib.project import StackError

_PATHS = {"appDirPath", "configFilePath", "resourcesPath", "resourcesPaths"}
_SIDECAR_PORTS = {
    "HTTP": "daprHTTPPort",
    "gRPC": "daprGRPCPort",
    "internal gRPC": "daprInternalGRPCPort",
    "metrics": "metricsPort",
}
SIDECAR_USES = tuple(_SIDECAR_PORTS)
"""The uses of a sidecar's ports."""
# Passed on to daprd unchanged.
_OPTIONS = {
    "appChannelAddress": "app-channel-address",
    "appHealthCheckPath": "app-health-check-path",
    "appHealthProbeInterval": "app-health-probe-interval",
    "appHealthProbeTimeout": "app-health-probe-timeout",
    "appHealthThreshold": "app-health-threshold",
    "appMaxConcurrency": "app-max-concurrency",
    "logLevel": "log-level",
    "maxBodySize": "max-body-size",
    "placementHostAddress": "placement-host-address",
    "readBufferSize": "read-buffer-size",
    "schedulerHostAddress": "scheduler-host-address",
    "enableApiLogging": "enable-api-logging",
    "enableAppHealthCheck": "enable-app-health-check",
}
# Sidecars listen on loopback, whatever the file says.
_OTHERS = {"appID", "appPort", "appProtocol", "apiListenAddresses", "command", "env"}
_KNOWN = _PATHS | _OTHERS | set(_SIDECAR_PORTS.values()) | set(_OPTIONS)


class _Loader(yaml.SafeLoader):
    """Supports `<<`, but no types: a variable that is 8080 or true in the file is a string."""

    # A class attribute, as in PyYAML itself.
    yaml_implicit_resolvers = {"<": yaml.SafeLoader.yaml_implicit_resolvers["<"]}  # noqa: RUF012


@dataclass(frozen=True)
class App:
    """One app of the file, merged with the `common` part."""

    app_id: str
    folder: Path
    command: list[str]
    environment: dict[str, str] = field(default_factory=dict)
    protocol: str = "http"
    port: int = 0
    """0 if it has none."""
    sidecar_ports: dict[str, int] = field(default_factory=dict)
    """By use; only those that the file sets."""
    config: Path | None = None
    resources: list[Path] = field(default_factory=list)
    options: dict[str, str] = field(default_factory=dict)
    """Other options of daprd, by their names there."""

    def __post_init__(self) -> None:
        for value in (*self.command, *self.environment.values()):
            if not isinstance(value, str):
                raise TypeError(f"{value!r} must be a text")
        for port in (self.port, *self.sidecar_ports.values()):
            if port not in range(65536):
                raise ValueError(f"{port} is no port")


@dataclass(frozen=True)
class RunFile:
    apps: list[App]
    not_understood: list[str]
    """The fields that have no effect."""


def read_run_file(path: Path) -> RunFile:
    """Raises `StackError`, naming the file, if it isn't a run file."""
    path = path / "dapr.yaml" if path.is_dir() else path
    try:
        return _parse(path, path.read_text())
    except OSError as error:
        raise StackError(f"{path}: {error.strerror}") from None
    except (yaml.YAMLError, AttributeError, TypeError, ValueError, RuntimeError) as error:
        problem = " ".join(f"{type(error).__name__}: {error}".split())
        raise StackError(f"{path} is no run file of Dapr's ({problem})") from None


def _parse(path: Path, text: str) -> RunFile:
    config = yaml.load(text, _Loader)  # noqa: S506 - it is a safe loader
    if not isinstance(config, dict) or not config.get("apps"):
        raise ValueError("it has no apps")
    common = config.get("common") or {}
    apps = [_app(path.resolve().parent, common, app) for app in config["apps"]]
    strange = {key for section in (common, *config["apps"]) for key in section} - _KNOWN
    strange |= set(config) - {"version", "name", "common", "apps"}
    return RunFile(apps, sorted(strange))


def _app(base: Path, common: Mapping[str, Any], own: Mapping[str, Any]) -> App:
    if "appDirPath" not in own:
        raise ValueError(f"{own.get('appID', 'an app')} has no appDirPath")
    folder = _path(base, own["appDirPath"])
    both = {**common, **{key: value for key, value in own.items() if value}}
    return App(
        app_id=own.get("appID") or folder.name,
        folder=folder,
        command=_list(own.get("command")),
        environment={**(common.get("env") or {}), **(own.get("env") or {})},
        protocol=both.get("appProtocol", "http"),
        port=int(own.get("appPort") or 0),
        sidecar_ports={u: int(own[key]) for u, key in _SIDECAR_PORTS.items() if own.get(key)},
        config=next(_configs(base, folder, common, own), None),
        resources=_resources(base, folder, common, own),
        options={o: both[key] for key, o in _OPTIONS.items() if both.get(key, "").strip()},
    )


def _configs(
    base: Path, folder: Path, common: Mapping[str, Any], own: Mapping[str, Any]
) -> Iterator[Path]:
    """Where the app's Configuration may be, in order of preference."""
    if own.get("configFilePath"):
        yield _path(folder, own["configFilePath"])
    if (folder / ".dapr/config.yaml").exists():
        yield folder / ".dapr/config.yaml"
    if common.get("configFilePath"):
        yield _path(base, common["configFilePath"])


def _resources(
    base: Path, folder: Path, common: Mapping[str, Any], own: Mapping[str, Any]
) -> list[Path]:
    if found := _paths(folder, own):
        return found
    if (folder / ".dapr/resources").exists():
        return [folder / ".dapr/resources"]
    return _paths(base, common)


def _paths(base: Path, section: Mapping[str, Any]) -> list[Path]:
    named = section.get("resourcesPaths") or []
    # Dapr's documentation also shows a text with commas.
    named = named.split(",") if isinstance(named, str) else _list(named)
    return [
        _path(base, name.strip()) for name in (*named, section.get("resourcesPath", "")) if name
    ]


def _list(value: Any) -> list[str]:
    if value and not isinstance(value, list):
        raise ValueError(f"{value!r} must be a list")
    return value or []


def _path(base: Path, name: str) -> Path:
    return base / Path(name).expanduser()


def listed(path: Path) -> str:
    """The path, quoted for those options of daprd that accept a list in CSV."""
    text = str(path)
    return text if {",", '"', "\n"}.isdisjoint(text) else '"' + text.replace('"', '""') + '"'


def configuration_of(command: list[str]) -> Path | None:
    """The Configuration in a sidecar's command."""
    if "--config" not in command:
        return None
    ((path,),) = csv.reader([command[command.index("--config") + 1]])
    return Path(path)


def set_configuration(command: list[str], path: Path) -> None:
    """Replace the Configuration in a sidecar's command."""
    if "--config" not in command:
        command += ["--config", ""]
    command[command.index("--config") + 1] = listed(path)


def daprd_command(
    daprd: Path, app: App, *, host: str = "127.0.0.1", port: int, ports: Mapping[str, int]
) -> list[str]:
    """The command of the app's sidecar, which listens on loopback only, on `ports`. The app itself
    listens on `host` and `port`, which is 0 if it doesn't listen."""
    options = {
        "app-id": app.app_id,
        "dapr-http-port": ports["HTTP"],
        "dapr-grpc-port": ports["gRPC"],
        "dapr-internal-grpc-port": ports["internal gRPC"],
        "metrics-port": ports["metrics"],
        "dapr-listen-addresses": "127.0.0.1",
        "dapr-internal-grpc-listen-address": "127.0.0.1",
        "metrics-listen-address": "127.0.0.1",
    }
    if port:
        options |= {"app-port": port, "app-protocol": app.protocol, "app-channel-address": host}
    if app.config:
        options["config"] = listed(app.config)
    pairs = [*options.items(), *(("resources-path", listed(folder)) for folder in app.resources)]
    command = [str(daprd), *(part for name, value in pairs for part in (f"--{name}", str(value)))]
    return [*command, *(f"--{name}={value}" for name, value in app.options.items())]
