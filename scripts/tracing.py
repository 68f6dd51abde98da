"""What scripts/run.sh adds to a stack to have it traced: sidecars that send their spans where the
services do and, if asked for, Zipkin or Jaeger to send them to."""

import asyncio
import os
import shutil
import time
import urllib.request
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml

from daca_shared.settings import ServiceSettings
from scripts.service import ROOT, Service
from scripts.stack import Stack, StackError

_VIEWER_START_TIMEOUT_S = 60.0
_ZIPKIN_PORT = 9411
_JAEGER_PORTS = {"JAEGER_PORT": 16686, "JAEGER_QUERY_PORT": 16685, "JAEGER_OTLP_PORT": 4318}


def trace_sidecars(stack: Stack, settings: ServiceSettings, folder: Path) -> None:
    """Give each sidecar its Configuration with the tracing that the services have."""
    tracing = _tracing_spec(settings)
    if tracing is None:
        return
    folder.mkdir(parents=True, exist_ok=True)
    for service in stack.services.values():
        # Who looks on wants to see a chat at once, not after five seconds.
        service.environment.setdefault("OTEL_BSP_SCHEDULE_DELAY", "500")
        if not service.is_sidecar:
            continue
        position = service.command.index("--config") + 1
        configuration = yaml.safe_load(Path(service.command[position]).read_text())
        configuration["spec"]["tracing"] = tracing
        path = folder / f"{service.name}.yaml"
        path.write_text(yaml.safe_dump(configuration))
        service.command[position] = str(path)


def _tracing_spec(settings: ServiceSettings) -> dict[str, Any] | None:
    # Of the calls that come without a decision; for the others it is their caller's.
    spec: dict[str, Any] = {"samplingRate": f"{settings.sampling_ratio:f}"}
    if settings.otlp_endpoint is not None:
        url = urlsplit(str(settings.otlp_endpoint))
        # Any headers come to daprd by the environment variable.
        return spec | {
            "otel": {
                "endpointAddress": url.netloc,
                "isSecure": url.scheme == "https",
                "protocol": "http",
            }
        }
    if settings.zipkin_endpoint is not None:
        return spec | {"zipkin": {"endpointAddress": str(settings.zipkin_endpoint)}}
    return None


class Viewer:
    """A Zipkin or a Jaeger beside the stack. Both keep traces in memory only."""

    def __init__(self, kind: str, program: Path, *, log_dir: Path) -> None:
        self._is_zipkin = kind == "zipkin"
        if self._is_zipkin:
            command, environment, ports = _zipkin(program)
        else:
            command, environment, ports = _jaeger(program)
        self.url = f"http://localhost:{ports['UI']}"
        self.service = Service(
            kind, command, {**os.environ, **environment}, ports, log_dir / f"{kind}.log"
        )

    @property
    def endpoint(self) -> dict[str, str]:
        """What the environment has to say for spans to come here."""
        zipkin = otlp = ""
        if self._is_zipkin:
            zipkin = f"http://127.0.0.1:{self.service.ports['UI']}/api/v2/spans"
        else:
            otlp = f"http://127.0.0.1:{self.service.ports['OTLP']}"
        return {"OTEL_EXPORTER_ZIPKIN_ENDPOINT": zipkin, "OTEL_EXPORTER_OTLP_ENDPOINT": otlp}

    def help(self) -> str:
        """Where to look, for the person at the terminal."""
        path = "zipkin/traces" if self._is_zipkin else "trace"
        return (
            f"  traces             {self.url}\n"
            f"  one chat's trace   {self.url}/{path}/<the answer's x-trace-id>\n"
        )

    async def wait_until_ready(self) -> None:
        """Raises `StackError` if it ends before it serves, or takes over a minute."""
        url = f"http://127.0.0.1:{self.service.ports['UI']}/{'health' if self._is_zipkin else ''}"
        deadline = time.monotonic() + _VIEWER_START_TIMEOUT_S
        while not await asyncio.to_thread(_answers, url):
            if self.service.ending() or time.monotonic() > deadline:
                words = self.service.last_words()
                raise StackError(f"{self.service.name} does not serve; its last words:\n{words}")
            await asyncio.sleep(0.1)


def _zipkin(jar: Path) -> tuple[list[str], dict[str, str], dict[str, int]]:
    java = shutil.which("java")
    if java is None:
        raise StackError("Zipkin needs Java 17 or newer; or use --jaeger")
    port = int(os.environ.get("ZIPKIN_PORT", _ZIPKIN_PORT))
    # A quick start matters more here than its speed thereafter.
    options = ["-Xmx256m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC"]
    listen = ["--armeria.ports[0].ip=127.0.0.1", f"--armeria.ports[0].port={port}"]
    listen.append("--armeria.ports[0].protocols[0]=http")
    return [java, *options, "-jar", str(jar), *listen], {}, {"UI": port}


def _jaeger(program: Path) -> tuple[list[str], dict[str, str], dict[str, int]]:
    ports = {name: int(os.environ.get(name, port)) for name, port in _JAEGER_PORTS.items()}
    environment = {name: str(port) for name, port in ports.items()}
    environment["OTEL_TRACES_SAMPLER"] = "always_off"  # it would trace itself
    command = [str(program), "--config", str(ROOT / "deploy/local/jaeger.yaml")]
    return command, environment, dict(zip(("UI", "queries", "OTLP"), ports.values(), strict=True))


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2) as answer:  # noqa: S310
            return bool(answer.status == 200)  # noqa: PLR2004
    except OSError:
        return False
