"""One process of the stack: start it, stop it, read its last words."""

import asyncio
import contextlib
import os
import signal
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
    process: asyncio.subprocess.Process | None = field(default=None, repr=False)

    @property
    def is_sidecar(self) -> bool:
        """Whether it is an app's daprd."""
        return self.name.endswith("-sidecar")

    @property
    def is_app(self) -> bool:
        """Whether it is one of the run file's apps."""
        return "gRPC" in self.ports and not self.is_sidecar

    async def start(self) -> None:
        """Start it in a process group of its own, so that Ctrl-C reaches only us."""
        with self.log_path.open("ab") as log:
            self.process = await asyncio.create_subprocess_exec(
                *self.command,
                env=self.environment,
                cwd=ROOT,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    async def ended(self) -> None:
        """Wait until its process has ended."""
        if self.process is not None:
            await self.process.wait()

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
        if self.process is None:
            return None
        self.signal(number)
        try:
            return await asyncio.wait_for(self.process.wait(), _STOP_TIMEOUT_S)
        except TimeoutError:
            self.signal(signal.SIGKILL)
            return await self.process.wait()

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to its process group, if it still runs."""
        if self.process is not None and self.process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, number)

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
