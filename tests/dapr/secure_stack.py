"""The stack as `scripts/run.sh --secure` runs it, with a wiretap between its sidecars, and
other people's sidecars."""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from grpc import aio

from lab.machine import free_port, tool
from lab.stack import RunningStack, eventually, render_run_file
from scripts.lib.project import ROOT
from scripts.lib.settings import read_environment
from scripts.names import write_names
from scripts.secure import Security
from scripts.service import Service
from scripts.stack import Stack
from tests.relay import pass_on


class Wiretap:
    """Forwards connections from `127.0.0.1:port` to `127.0.0.2:port`, and records the bytes."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.sent: list[bytearray] = []
        """What the caller of each connection sent."""
        self.answered: list[bytearray] = []

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[None]:
        server = await asyncio.start_server(self._pass_on, "127.0.0.1", self.port)
        try:
            yield
        finally:
            server.close()

    async def _pass_on(self, near: asyncio.StreamReader, back: asyncio.StreamWriter) -> None:
        far, on = await asyncio.open_connection("127.0.0.2", self.port)
        sent, answered = bytearray(), bytearray()
        self.sent.append(sent)
        self.answered.append(answered)
        await asyncio.gather(pass_on(near, on, sent.extend), pass_on(far, back, answered.extend))


class SecureStack(RunningStack):
    """The whole system with mTLS, access control and tokens."""

    def __init__(self, stack: Stack, security: Security, folder: Path) -> None:
        super().__init__(stack, folder / "dapr.yaml")
        self.security = security
        self.folder = folder
        sidecar = stack.services[f"{self.analytics}-sidecar"]
        self.wiretap = Wiretap(free_port())
        # Others still use 127.0.0.1, where the wiretap listens.
        set_option(sidecar.command, "--dapr-internal-grpc-port", str(self.wiretap.port))
        set_option(sidecar.command, "--dapr-internal-grpc-listen-address", "127.0.0.2")

    def token(self, app: str, variable: str) -> str:
        return self.stack.services[app].environment[variable]

    def channel(self, service: str) -> aio.Channel:
        """To the gRPC port of an app or of a sidecar."""
        return aio.insecure_channel(f"127.0.0.1:{self.stack.services[service].ports['gRPC']}")

    def other_sidecar(self, app_id: str, identity: dict[str, str], *, mtls: bool = True) -> Service:
        """Somebody else's daprd on this machine, without access policies."""
        ports = {name: free_port() for name in ("HTTP", "gRPC", "metrics")}
        options = {
            "--app-id": app_id,
            "--dapr-http-port": str(ports["HTTP"]),
            "--dapr-grpc-port": str(ports["gRPC"]),
            "--dapr-internal-grpc-port": str(free_port()),
            "--metrics-port": str(ports["metrics"]),
            "--config": str(ROOT / "deploy/local/config.yaml"),
        }
        command = [*self.stack.services[f"{self.chat}-sidecar"].command]
        for name, value in options.items():
            set_option(command, name, value)
        at = command.index("--app-port")
        del command[at : at + 2]
        if not mtls:
            at = command.index("--enable-mtls")
            del command[at : at + 5]  # including the address and the trust domain
        environment = {**os.environ, "DAPR_HOST_IP": "127.0.0.1", **identity}
        return Service(app_id, command, environment, ports, self.folder / f"{app_id}.log")


def set_option(command: list[str], name: str, value: str) -> None:
    command[command.index(name) + 1] = value


@asynccontextmanager
async def started(sidecar: Service) -> AsyncIterator[Service]:
    """Start the sidecar, and wait until it answers."""
    await sidecar.start()

    async def is_up() -> bool:
        assert not sidecar.ending(), sidecar.last_words()
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", sidecar.ports["gRPC"])
        except OSError:
            return False
        writer.close()
        return True

    try:
        await eventually(is_up, expected=True)
        yield sidecar
    finally:
        await sidecar.stop()


def render_configurations(folder: Path, analytics: str, chat: str) -> Path:
    """Write deploy/secure with the test's app ids."""
    folder.mkdir()
    for path in (ROOT / "deploy/secure").glob("*.yaml"):
        text = path.read_text().replace("appId: chat-service", f"appId: {chat}")
        name = path.name.replace("analytics-service", analytics).replace("chat-service", chat)
        (folder / name).write_text(text)
    return folder


def certificate_authority(config_dir: Path, data_dir: Path) -> Security:
    return Security(
        tool("SENTRY"),
        config_dir=config_dir,
        data_dir=data_dir,
        port=free_port(),
        health_port=free_port(),
        environment=read_environment(),
    )


@asynccontextmanager
async def secure_stack(folder: Path) -> AsyncIterator[SecureStack]:
    data_dir = folder / "data"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DACA_DATA_DIR", str(data_dir))
        stack = Stack(render_run_file(folder), daprd=tool("DAPRD"), log_dir=data_dir / "logs")
    analytics, chat = (name for name in stack.services if not name.endswith("-sidecar"))
    config_dir = render_configurations(folder / "secure", analytics, chat)
    security = certificate_authority(config_dir, data_dir)
    await security.protect(stack)
    system = SecureStack(stack, security, folder)
    write_names(stack, folder / "names.yaml")
    async with system.wiretap.listening():
        await stack.start()
        try:
            await system.wait_until_ready()
            yield system
        finally:
            await stack.stop()
