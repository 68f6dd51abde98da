"""One process of the stack: start it, stop it, read its last words."""

import asyncio
import contextlib
import os
import signal
import socket
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# SIGTERM leaves an app its grace and one last flush; after this it has hung.
_STOP_TIMEOUT_S = 20.0


@dataclass
class Service:
    """One process of the stack."""

    name: str
    command: list[str]
    environment: dict[str, str]
    ports: dict[str, int]
    log_path: Path
    listener: socket.socket | None = None
    """Handed to each of its processes, so that nobody is refused between two of them."""
    process: asyncio.subprocess.Process | None = field(default=None, repr=False)
    _restart: asyncio.Lock = field(default_factory=asyncio.Lock, repr=False)

    @property
    def is_sidecar(self) -> bool:
        """Whether it is an app's daprd."""
        return self.name.endswith("-sidecar")

    @property
    def is_app(self) -> bool:
        """Whether it is one of the run file's apps."""
        return "gRPC" in self.ports and not self.is_sidecar

    async def start(self, ready_fd: int | None = None) -> None:
        """Start it in a process group of its own, so that Ctrl-C reaches only us.

        A process that serves says so with a line on the pipe `ready_fd`, if given.
        """
        environment = dict(self.environment)
        given = []
        if self.listener is not None:
            environment["CHAT_HTTP_FD"] = str(self.listener.fileno())
            given.append(self.listener.fileno())
        if ready_fd is not None:
            environment["DACA_READY_FD"] = str(ready_fd)
            given.append(ready_fd)
        with self.log_path.open("ab") as log:
            self.process = await asyncio.create_subprocess_exec(
                *self.command,
                env=environment,
                cwd=ROOT,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                pass_fds=given,
            )

    async def replace(self) -> bool:
        """Start it anew beside its old process, which ends once the new one serves. False if
        the new one ends before that; the old one goes on then."""
        old = self.process
        reader, writer = os.pipe()
        try:
            await self.start(writer)
        finally:
            os.close(writer)
        with os.fdopen(reader, "rb") as pipe:
            serves = await asyncio.to_thread(pipe.read, 1)
        if not serves:
            self.process = old
            return False
        await _end(old)
        return True

    async def restart(self) -> None:
        """Kill it and start it again; for `ended`, it has not ended."""
        async with self._restart:
            await self.stop(signal.SIGKILL)
            await self.start()

    async def ended(self) -> asyncio.subprocess.Process | None:
        """Wait until its process has ended, and return that."""
        process = self.process
        if process is not None:
            await process.wait()
        async with self._restart:
            return process

    async def listens(self) -> bool:
        """Wait until its gRPC port accepts connections; False if it ends before."""
        while not self.ending():
            with contextlib.suppress(OSError):
                _, writer = await asyncio.open_connection("127.0.0.1", self.ports["gRPC"])
                writer.close()
                return True
            await asyncio.sleep(0.02)
        return False

    async def stop(self, number: signal.Signals = signal.SIGTERM) -> int | None:
        """End it, and return its exit code; one that does not end in time is killed."""
        return await _end(self.process, number)

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to its process group, if it still runs."""
        _signal(self.process, number)

    def ending(self) -> str:
        """How it ended, in words; empty while it runs."""
        code = self.process.returncode if self.process else None
        if code is None:
            return ""
        return f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"

    def last_words(self, lines: int = 15) -> str:
        """The end of its log."""
        text = self.log_path.read_text(errors="replace") if self.log_path.exists() else ""
        return "\n".join(f"    {line}" for line in text.splitlines()[-lines:])


async def _end(
    process: asyncio.subprocess.Process | None, number: signal.Signals = signal.SIGTERM
) -> int | None:
    if process is None:
        return None
    _signal(process, number)
    try:
        return await asyncio.wait_for(process.wait(), _STOP_TIMEOUT_S)
    except TimeoutError:
        _signal(process, signal.SIGKILL)
        return await process.wait()


def _signal(process: asyncio.subprocess.Process | None, number: signal.Signals) -> None:
    if process is not None and process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
