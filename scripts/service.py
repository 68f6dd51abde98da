"""One process of the stack: starting it, stopping it, reading the end of its log."""

import asyncio
import os
import shutil
import signal
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from scripts.lib import probes
from scripts.lib.logs import Log
from scripts.lib.project import ROOT, StackError

# After SIGTERM an app uses its grace period, then sends its outbox. After this time it hangs.
_STOP_TIMEOUT_S = 20.0
# A process that SIGKILL doesn't end is waiting for a disk that doesn't respond.
_KILL_TIMEOUT_S = 1.0
_POLL_S = 0.05
_OK = 200
# A disk with less room is full: the services themselves need as much.
_ROOM_BYTES = 256 * 1024


@dataclass
class Service:
    """One process of the stack."""

    name: str
    command: list[str]
    environment: dict[str, str]
    ports: dict[str, int]
    log_path: Path
    host: str = "127.0.0.1"
    """The host at which its ports are reached."""
    metrics_host: str = "127.0.0.1"
    """The host of its metrics."""
    folder: Path = ROOT
    """Its working folder."""
    is_vital: bool = True
    """Whether the stack is useless without it."""
    is_sidecar: bool = False
    """Whether it is an app's daprd."""
    umask: int = -1
    """The mode bits that its files don't get; -1 keeps ours."""
    note: Callable[[str], None] = field(default=lambda line: None, repr=False)
    """Called with a line for each process group that begins or has ended."""
    process: asyncio.subprocess.Process | None = field(default=None, repr=False)
    _group: int | None = field(default=None, init=False)
    """Its process group, while any process is in it."""

    def __post_init__(self) -> None:
        self.log = Log(self.log_path)

    def addresses(self) -> list[tuple[str, str, int]]:
        """Each port's use, host and number."""
        hosts = {"metrics": self.metrics_host}
        return [(use, hosts.get(use, self.host), port) for use, port in self.ports.items()]

    def option(self, name: str) -> str:
        """The argument after `name` in its command. Raises `ValueError` if there is none."""
        return self.command[self.command.index(name) + 1]

    async def start(self) -> None:
        """Start it in its own process group, so that Ctrl-C reaches only us. Raises `OSError` if it
        can't be started."""
        log = self.log.open()
        # uvloop, on which the bench runs, doesn't support a umask.
        umask: dict[str, Any] = {} if self.umask < 0 else {"umask": self.umask}
        try:
            self.process = await asyncio.create_subprocess_exec(
                *self.command,
                env=self.environment,
                cwd=self.folder,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                **umask,
            )
        except OSError:
            self.log.close()
            raise
        self._forget_group()
        self._group = self.process.pid
        self.note(f"+{self._group}")

    async def ended(self) -> int | None:
        """Wait until its process has ended, and return its exit code. If it was only a wrapper, the
        processes that it started may live on in its group."""
        if self.process is None:
            return None
        code = await self.process.wait()
        self.signal(0)
        self.log.close()
        return code

    async def listens(self) -> bool:
        """Wait until its main port (the app port, or a sidecar's API) accepts connections. False if
        it has none, or ends before."""
        port = self.ports.get("gRPC") or self.ports.get("app")
        while port and not self.ending():
            if await probes.listens(self.host, port):
                return True
            await asyncio.sleep(0.02)
        return False

    async def answers(self, url: str, timeout_s: float) -> None:
        """Wait until it answers 200 at `url`. Raises `StackError` as `until` does."""

        async def is_ok() -> bool:
            status, _ = await asyncio.to_thread(probes.get, url)
            return status == _OK

        await self.until(is_ok, timeout_s, f"{self.name} does not serve")

    async def until(
        self, is_so: Callable[[], Awaitable[bool]], timeout_s: float, otherwise: str
    ) -> None:
        """Wait until `is_so`. Raises `StackError` with `otherwise` and its last words if it ends
        before that, or takes too long."""
        deadline = time.monotonic() + timeout_s
        while not await is_so():
            if self.ending() or time.monotonic() > deadline:
                raise StackError(f"{otherwise}; its last words:\n{self.last_words()}")
            await asyncio.sleep(_POLL_S)

    async def stop(
        self, number: signal.Signals = signal.SIGTERM, timeout_s: float = _STOP_TIMEOUT_S
    ) -> int | None:
        """Stop it, and return its exit code. It is killed if it doesn't end in time."""
        self.signal(number)
        # A process that was stopped (SIGSTOP) sees the first signal only after this one.
        self.signal(signal.SIGCONT)
        try:
            return await asyncio.wait_for(self._all_ended(), timeout_s)
        except TimeoutError:
            self.signal(signal.SIGKILL)
        try:
            code = await asyncio.wait_for(self.ended(), _KILL_TIMEOUT_S)
        except TimeoutError:
            return None
        self._forget_group()
        return code

    async def _all_ended(self) -> int | None:
        code = await self.ended()
        while self.signal(0):  # noqa: ASYNC110 - the others are no children of ours
            await asyncio.sleep(_POLL_S)
        return code

    def signal(self, number: int) -> bool:
        """Signal its process group (0: send nothing). Returns whether any process was in it."""
        if self._group is None:
            return False
        try:
            os.killpg(self._group, number)
        except OSError:
            self._forget_group()
        return bool(self._group)

    def _forget_group(self) -> None:
        """Once all in it are dead, its number may become another group's."""
        if self._group:
            self.note(f"-{self._group}")
            self._group = None

    def ending(self) -> str:
        """How it ended, in words; empty while it runs."""
        code = self.process.returncode if self.process else None
        if code is None:
            return ""
        if code >= 0:
            return f"exit code {code}"
        known = {number.value: number.name for number in signal.Signals}
        return f"killed by {known.get(-code, f'signal {-code}')}"

    def last_words(self, lines: int = 15) -> str:
        """The last lines of its log. On a full disk, the log may lack the cause."""
        words = self.log.end(lines)
        with suppress(OSError):
            if shutil.disk_usage(folder := self.log_path.parent).free < _ROOM_BYTES:
                words.append(f"the disk of {folder} is full")
        return "\n".join(f"    {line}" for line in words)
