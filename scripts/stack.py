"""The processes of a Dapr run file: each app, and its sidecar.

Like `dapr run -f`, but everything is bound to loopback, a process that dies is started
again, and a stop drains the apps before it ends their sidecars (the CLI kills them).
"""

import asyncio
import json
import os
import signal
import socket
import sys
import time
import urllib.request
from http.client import HTTPException
from pathlib import Path

import yaml

from scripts.local_model import MODEL_NAME
from scripts.run_file import app_environment, daprd_command, sidecar_environment
from scripts.service import Service

_READY_TIMEOUT_S = 60.0
_MAX_QUICK_DEATHS = 5


class StackError(Exception):
    """Why the stack can't run, in words for the person at the terminal."""


class Stack:
    """The apps of a run file and, unless `daprd` is None, their sidecars."""

    def __init__(self, run_file: Path, *, daprd: Path | None, log_dir: Path) -> None:
        config = yaml.safe_load(run_file.read_text())
        self.services: dict[str, Service] = {}
        log_dir.mkdir(parents=True, exist_ok=True)
        for app in config["apps"]:
            app_id = app["appID"]
            environment = app_environment(app, sidecar=daprd is not None)
            ports = {"gRPC": app["appPort"]}
            if "CHAT_HTTP_PORT" in environment:
                ports["HTTP"] = int(environment["CHAT_HTTP_PORT"])
            for name in app["env"]:
                if name.endswith("_METRICS_PORT") and environment[name].isdecimal():
                    ports["metrics"] = int(environment[name])
            self._add(app_id, app["command"], environment, ports, log_dir)
            if daprd is not None:
                ports = {
                    "HTTP": app["daprHTTPPort"],
                    "gRPC": app["daprGRPCPort"],
                    "metrics": app["metricsPort"],
                }
                command = daprd_command(daprd, config["common"], app)
                self._add(f"{app_id}-sidecar", command, sidecar_environment(), ports, log_dir)

    @property
    def apps(self) -> list[Service]:
        """The services that are no sidecars, and not the model."""
        return [service for service in self.services.values() if service.is_app]

    def _add(
        self,
        name: str,
        command: list[str],
        environment: dict[str, str],
        ports: dict[str, int],
        log_dir: Path,
    ) -> None:
        log_path = log_dir / f"{name}.log"
        self.services[name] = Service(name, command, environment, ports, log_path)

    def add_local_model(self, port: int, log_dir: Path) -> None:
        """Run a small language model too, and have the apps use it."""
        command = [sys.executable, "-m", "scripts.local_model", "--port", str(port)]
        for service in self.services.values():
            service.environment["OPENAI_BASE_URL"] = f"http://127.0.0.1:{port}/v1"
            service.environment["CHAT_MODEL"] = MODEL_NAME
        self._add("local-model", command, dict(os.environ), {"HTTP": port}, log_dir)

    def check_ports(self) -> None:
        """Raises `StackError` naming every port that another process listens on."""
        taken = [
            f"  port {port} ({service.name}, {use})"
            for service in self.services.values()
            for use, port in service.ports.items()
            if not _is_free(port)
        ]
        if taken:
            raise StackError(
                "these ports are taken; is the stack running already?\n" + "\n".join(taken)
            )

    async def start(self) -> None:
        """Start everything at once; each part waits for the others by itself."""
        for service in self.services.values():
            service.log_path.write_bytes(b"")
            await service.start()

    async def stop(self) -> None:
        """Drain and end the apps, the first started last, then their sidecars."""
        for service in reversed(self.apps):
            await service.stop()
        await asyncio.gather(*(service.stop() for service in self.services.values()))

    async def supervise(self) -> None:
        """Start what dies again, until cancelled; to be cancelled before a stop.

        Raises `StackError` when something keeps dying at once.
        """
        try:
            async with asyncio.TaskGroup() as group:
                for service in self.services.values():
                    group.create_task(self._keep_running(service))
        except ExceptionGroup as errors:
            raise errors.exceptions[0] from None

    async def _keep_running(self, service: Service) -> None:
        quick_deaths = 0
        while True:
            began = time.monotonic()
            await service.ended()
            quick_deaths = quick_deaths + 1 if time.monotonic() - began < 10 else 0  # noqa: PLR2004
            if quick_deaths >= _MAX_QUICK_DEATHS:
                words = service.last_words()
                raise StackError(f"{service.name} keeps ending; its last words:\n{words}")
            print(f"{service.name} ended ({service.ending()}); starting it again", flush=True)
            await asyncio.sleep(0.1 * 2**quick_deaths)
            await service.start()
            sidecar = self.services.get(f"{service.name}-sidecar")
            if sidecar and await service.listens():
                # It has been backing off from its app: after 2 s of absence by 2 s more, after
                # 30 s by 15, in the end by 120. So it starts anew, too.
                sidecar.signal(signal.SIGKILL)

    async def wait_until_ready(self, url: str) -> None:
        """Wait until `url` (chat's /readyz) says that analytics answers, through the sidecars.

        Raises `StackError` if a process ends before, or it takes over a minute.
        """
        deadline = time.monotonic() + _READY_TIMEOUT_S
        while time.monotonic() < deadline:
            for service in self.services.values():
                if service.ending():
                    raise StackError(
                        f"{service.name} ended while starting "
                        f"({service.ending()}); its last words:\n" + service.last_words()
                    )
            if await asyncio.to_thread(_is_ready, url):
                return
            await asyncio.sleep(0.1)
        logs = ", ".join(str(service.log_path) for service in self.services.values())
        raise StackError(f"not ready after {_READY_TIMEOUT_S:.0f} s; see {logs}")


def _is_free(port: int) -> bool:
    try:
        socket.create_server(("127.0.0.1", port)).close()
    except OSError:
        return False
    return True


def _is_ready(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2) as answer:  # noqa: S310
            return bool(json.load(answer)["analytics"] == "ok")
    except (OSError, ValueError, HTTPException):
        return False
