"""What scripts/run.sh adds for traces: sidecars send their spans to the same place as the services
and, if asked for, Zipkin or Jaeger runs beside the stack."""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml

from daca_shared.settings import ServiceSettings
from scripts.lib.environments import share
from scripts.lib.project import ROOT, StackError
from scripts.lib.run_file import configuration_of, set_configuration
from scripts.lib.settings import RunnerSettings
from scripts.service import Service
from scripts.stack import Stack

_VIEWER_START_TIMEOUT_S = 60.0

_CONFIGURATION: dict[str, Any] = {
    "apiVersion": "dapr.io/v1alpha1",
    "kind": "Configuration",
    "metadata": {"name": "daca-tracing"},
}


def trace_sidecars(stack: Stack, settings: ServiceSettings, folder: Path) -> None:
    """Give each sidecar's Configuration the tracing settings of the services."""
    tracing = _tracing_spec(settings)
    if tracing is None:
        return
    folder.mkdir(parents=True, exist_ok=True)
    for service in stack.services.values():
        # A person who watches wants to see a chat at once, not after five seconds.
        service.environment.setdefault("OTEL_BSP_SCHEDULE_DELAY", "500")
        if not service.is_sidecar:
            continue
        own = configuration_of(service.command)
        configuration = yaml.safe_load(own.read_text()) if own else dict(_CONFIGURATION)
        configuration.setdefault("spec", {})["tracing"] = tracing
        path = folder / f"{service.name}.yaml"
        path.write_text(yaml.safe_dump(configuration))
        set_configuration(service.command, path)


def _tracing_spec(settings: ServiceSettings) -> dict[str, Any] | None:
    # For calls whose caller hasn't decided whether they are traced.
    spec: dict[str, Any] = {"samplingRate": f"{settings.sampling_ratio:f}"}
    if settings.otlp_endpoint is not None:
        url = urlsplit(str(settings.otlp_endpoint))
        # daprd reads the headers from the environment variable.
        return spec | {
            "otel": {
                "endpointAddress": url.netloc.rpartition("@")[2],
                "isSecure": url.scheme == "https",
                "protocol": "http",
            }
        }
    if settings.zipkin_endpoint is not None:
        return spec | {"zipkin": {"endpointAddress": str(settings.zipkin_endpoint)}}
    return None


class Viewer:
    """A Zipkin or a Jaeger beside the stack. Both keep traces in memory only."""

    def __init__(
        self,
        kind: str,
        program: Path,
        *,
        log_dir: Path,
        settings: RunnerSettings,
        environment: Mapping[str, str],
    ) -> None:
        self._is_zipkin = kind == "zipkin"
        describe = _zipkin if self._is_zipkin else _jaeger
        command, own, ports = describe(program, settings)
        self.url = f"http://127.0.0.1:{ports['UI']}"
        self.service = Service(
            kind, command, share(environment, kind) | own, ports, log_dir / f"{kind}.log"
        )
        self.service.is_vital = False

    @property
    def endpoint(self) -> dict[str, str]:
        """The environment with which spans are sent here."""
        zipkin, otlp = "OTEL_EXPORTER_ZIPKIN_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"
        if self._is_zipkin:
            return {zipkin: f"{self.url}/api/v2/spans", otlp: ""}
        return {zipkin: "", otlp: f"http://127.0.0.1:{self.service.ports['OTLP']}"}

    def help(self) -> str:
        """Where to look, for the person at the terminal."""
        path = "zipkin/traces" if self._is_zipkin else "trace"
        return (
            f"  traces             {self.url}\n"
            f"  one chat's trace   {self.url}/{path}/<the answer's x-trace-id>\n"
        )

    async def wait_until_ready(self) -> None:
        """Raises `StackError` if it ends before it serves, or takes over a minute."""
        url = f"{self.url}/{'health' if self._is_zipkin else ''}"
        await self.service.answers(url, _VIEWER_START_TIMEOUT_S)


type _Run = tuple[list[str], dict[str, str], dict[str, int]]


def _zipkin(jar: Path, settings: RunnerSettings) -> _Run:
    java = shutil.which("java")
    if java is None:
        raise StackError("Zipkin needs Java 17 or newer; or use --jaeger")
    port = settings.zipkin_port
    # A fast start matters more here than speed afterwards.
    options = ["-Xmx256m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC"]
    listen = ["--armeria.ports[0].ip=127.0.0.1", f"--armeria.ports[0].port={port}"]
    listen.append("--armeria.ports[0].protocols[0]=http")
    # Otherwise any page in the user's browser could read the traces, and a dump of the memory.
    closed = [f"--zipkin.query.allowed-origins=http://127.0.0.1:{port}"]
    closed.append("--zipkin.internal.actuator.enabled=false")
    return [java, *options, "-jar", str(jar), *listen, *closed], {}, {"UI": port}


def _jaeger(program: Path, settings: RunnerSettings) -> _Run:
    ports = {
        "UI": settings.jaeger_port,
        "queries": settings.jaeger_query_port,
        "OTLP": settings.jaeger_otlp_port,
    }
    # The variables that Jaeger's configuration refers to.
    names = ("JAEGER_PORT", "JAEGER_QUERY_PORT", "JAEGER_OTLP_PORT")
    environment = dict(zip(names, map(str, ports.values()), strict=True))
    environment["OTEL_TRACES_SAMPLER"] = "always_off"  # it would trace itself
    command = [str(program), "--config", str(ROOT / "deploy/local/jaeger.yaml")]
    return command, environment, ports
