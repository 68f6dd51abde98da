"""The processes of a Dapr run file: each app, and its sidecar.

Like `dapr run -f`, but everything is bound to loopback, a process that dies is started
again, and a stop drains the apps before it ends their sidecars (the CLI kills them).
"""

import asyncio
import secrets
import signal
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from daca_shared.addresses import address
from scripts.lib import probes
from scripts.lib.apps import place
from scripts.lib.environments import kind_of, share, sidecar_environment
from scripts.lib.project import StackError, say
from scripts.lib.run_file import SIDECAR_USES, App, daprd_command, read_run_file
from scripts.lib.settings import read_environment
from scripts.running.local_model import MODEL_NAME
from scripts.running.readiness import TIMEOUT_S, wait_until_ready
from scripts.service import Service

_MAX_QUICK_DEATHS = 5
_QUICK_S = 10.0
# A stop takes at most this long. Each app, and the sidecars together, get a part of it.
_STOP_TIMEOUT_S, _LEAST_STOP_S = 15.0, 2.0
_TIDY_EVERY_S = 2.0
_LOCAL_MODEL = "local-model"


class Stack:
    """The apps of a run file and, unless `daprd` is None, their sidecars."""

    def __init__(
        self,
        run_file: Path,
        *,
        daprd: Path | None,
        log_dir: Path,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        """`environment` is by default the caller's, with `.env`. Raises `StackError` if the file or
        a setting is invalid."""
        self.environment = read_environment() if environment is None else dict(environment)
        self.services: dict[str, Service] = {}
        self.apps: list[Service] = []
        """The services that are apps of the file."""
        self._log_dir = log_dir
        file = read_run_file(run_file)
        self.not_understood = file.not_understood
        for app in file.apps:
            self._add_app(app, daprd)
        if daprd is None:
            self._point_chat_to_analytics()

    def app(self, kind: str) -> Service | None:
        """The app that runs our module `kind`."""
        return next((app for app in self.apps if kind_of(app.command) == kind), None)

    def add(
        self, name: str, command: list[str], environment: dict[str, str], ports: dict[str, int]
    ) -> Service:
        """Add another process. Raises `StackError` if there is one of this name."""
        if name in self.services:
            raise StackError(f"the run file has two apps, or sidecars, called {name}")
        service = Service(name, command, environment, ports, self._log_dir / f"{name}.log")
        self.services[name] = service
        return service

    def _add_app(self, app: App, daprd: Path | None) -> None:
        ports = {use: app.sidecar_ports.get(use) or probes.free_port() for use in SIDECAR_USES}
        found = place(app, self.environment, ports if daprd else None)
        if app.command:
            service = self.add(app.app_id, app.command, found.environment, found.ports)
            service.host, service.metrics_host = found.host, found.metrics_host
            service.folder = app.folder
            # Somebody else's app may be there for one task, or not matter to the rest.
            service.is_vital = bool(kind_of(app.command))
            self.apps.append(service)
        if daprd is not None:
            port = found.ports.get("gRPC", app.port)
            command = daprd_command(daprd, app, host=found.host, port=port, ports=ports)
            variables = sidecar_environment(self.environment)
            self.add(f"{app.app_id}-sidecar", command, variables, ports).is_sidecar = True

    def _point_chat_to_analytics(self) -> None:
        chat, analytics = self.app("chat_service"), self.app("analytics_service")
        if chat and analytics and "ANALYTICS_ADDRESS" not in self.environment:
            where = address(analytics.host, analytics.ports["gRPC"])
            chat.environment["ANALYTICS_ADDRESS"] = where

    def add_local_model(self, port: int) -> None:
        """Also run a small language model, and have chat use it."""
        key = secrets.token_urlsafe()
        if chat := self.app("chat_service"):
            chat.environment["OPENAI_API_KEY"] = key
            chat.environment["OPENAI_BASE_URL"] = f"http://127.0.0.1:{port}/v1"
            chat.environment["CHAT_MODEL"] = MODEL_NAME
        command = [sys.executable, "-m", "scripts.running.local_model", "--port", str(port)]
        environment = share(self.environment, "local_model") | {"LOCAL_MODEL_KEY": key}
        self.add(_LOCAL_MODEL, command, environment, {"API": port})

    def places(self) -> dict[str, dict[str, Any]]:
        """Where each process is reached, for scripts/status.sh."""
        return {
            name: {"host": s.host, "ports": s.ports, "is_sidecar": s.is_sidecar}
            for name, s in self.services.items()
        }

    def check_ports(self) -> None:
        """Raises `StackError` naming every port that another process listens on."""
        taken = [
            f"  port {port} ({service.name}, {use})"
            for service in self.services.values()
            for use, host, port in service.addresses()
            if not probes.is_free(host, port)
        ]
        if taken:
            raise StackError(
                "these ports are taken, or may not be used; is the stack running already?\n"
                + "\n".join(taken)
                + "\n`ss -ltnp` shows whose they are; to use others, see docs/configuration.md"
            )

    async def start(self) -> None:
        """Start all at once, as each process waits for the others. Raises `StackError` if one can't
        be started."""
        for service in self.services.values():
            service.log.begin()
            try:
                await service.start()
            except OSError as error:
                raise StackError(f"{service.name} can't be started: {error}") from None

    async def stop(self) -> None:
        """Stop the apps in reverse order, then the rest, in 18 s at most."""
        deadline = time.monotonic() + _STOP_TIMEOUT_S
        for after, service in reversed([*enumerate(self.apps, 1)]):
            left = deadline - time.monotonic() - after * _LEAST_STOP_S
            await service.stop(timeout_s=max(left, _LEAST_STOP_S))
        left = max(deadline - time.monotonic(), _LEAST_STOP_S)
        await asyncio.gather(*(service.stop(timeout_s=left) for service in self.services.values()))

    def kill(self) -> None:
        """Kill everything at once."""
        for service in self.services.values():
            service.signal(signal.SIGKILL)

    async def supervise(self) -> None:
        """Restart what dies, until cancelled. Cancel this before a stop. Raises `StackError` when a
        vital process keeps dying right after its start."""
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._tidy_logs())
                for service in self.services.values():
                    group.create_task(self._keep_running(service))
        except ExceptionGroup as errors:
            raise errors.exceptions[0] from None

    async def wait_until_ready(self, url: str) -> None:
        """Wait until `url` (chat's /readyz) says that analytics answers, through the sidecars.
        Raises `StackError`, saying why, if it won't, or not within a minute."""
        await wait_until_ready(self.services.values(), url)
        # The model may still be loading its weights, and chat's readiness doesn't depend on it.
        if model := self.services.get(_LOCAL_MODEL):
            await model.answers(f"http://127.0.0.1:{model.ports['API']}/health", TIMEOUT_S)

    async def _tidy_logs(self) -> None:
        while True:
            await asyncio.sleep(_TIDY_EVERY_S)
            for service in self.services.values():
                service.log.tidy()

    async def _keep_running(self, service: Service) -> None:
        quick_deaths = 0
        while True:
            began = time.monotonic()
            code = await service.ended()
            # If it was a wrapper, the processes that it left behind would keep its port.
            service.signal(signal.SIGKILL)
            if code == 0 and not service.is_vital:
                say(f"{service.name} is done")
                return
            quick_deaths = quick_deaths + 1 if time.monotonic() - began < _QUICK_S else 0
            if quick_deaths >= _MAX_QUICK_DEATHS:
                problem = f"{service.name} keeps ending; its last words:\n{service.last_words()}"
                if service.is_vital:
                    raise StackError(problem)
                say(f"{problem}\nThe others go on.")
                return
            say(f"{service.name} ended ({service.ending()}); starting it again")
            await asyncio.sleep(0.1 * 2**quick_deaths)
            try:
                await service.start()
            except OSError as error:
                say(f"{service.name} can't be started: {error}")
                continue
            sidecar = self.services.get(f"{service.name}-sidecar")
            if sidecar and await service.listens():
                # A sidecar whose app is away retries ever more seldom: after 2 s away every 2 s,
                # after 30 s every 15 s, in the end every 120 s. A new one finds the app at once.
                sidecar.signal(signal.SIGKILL)
