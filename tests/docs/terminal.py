"""Terminals on a separate machine: the project's folder as in a fresh clone, the usual ports, and
no other processes."""

import codecs
import os
import pty
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from tempfile import NamedTemporaryFile

from scripts.lib.project import ROOT

# An overlay over the project's folder takes what is written there, and goes with the machine.
_BOOT = """
set -e
ip link set lo up
mkdir -p "$2"
mount -t tmpfs none "$2"
mkdir "$2/written" "$2/work"
mount -t overlay none -o "lowerdir=$1,upperdir=$2/written,workdir=$2/work" "$1"
cd "$1"
rm -rf data .env .dapr
echo up
sleep infinity &
wait # for whatever loses its parent, too
"""
PATIENCE_S = 120
_PROMPT = "\x1e"  # no program prints that


class Terminal:
    """An interactive bash."""

    def __init__(self, enter: list[str], environment: Mapping[str, str]) -> None:
        """`enter` is the command with which it enters its machine."""
        self._fd, theirs = pty.openpty()
        shell = ["setsid", "--ctty", "bash", "--norc", "--noprofile", "--noediting", "-i"]
        ours = {"PROMPT_COMMAND": f"printf '{_PROMPT}'", "PS1": "", "TERM": "dumb"}
        self._process = subprocess.Popen(
            [*enter, *shell], stdin=theirs, stdout=theirs, stderr=theirs, cwd=ROOT,
            env={**environment, **ours},
        )  # fmt: skip
        os.close(theirs)
        self._output = ""
        self._more = threading.Condition()
        self.keeps_running = False
        """Whether a command keeps running here, so that nothing else can be typed."""
        self._home = environment["HOME"]
        # A program whose output isn't read would block at some point.
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self.wait_for_prompt()
        self.start("stty -echo -onlcr")
        self.wait_for_prompt()

    def _read(self) -> None:
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        with suppress(OSError):  # it closes with its last process
            while data := os.read(self._fd, 65536):
                with self._more:
                    self._output += decoder.decode(data)
                    self._more.notify_all()

    def start(self, command: str) -> None:
        """Start a command."""
        # Sourced from a file, because typed lines have a maximum length, and to keep its variables.
        with NamedTemporaryFile("w", dir=self._home, delete=False) as script:
            script.write(command)
        self._output = ""
        os.write(self._fd, f". {script.name}\n".encode())

    def wait_for_end(self, *, ctrl_c: bool) -> None:
        if ctrl_c:
            os.write(self._fd, b"\x03")
        self.wait_for_prompt()
        self.keeps_running = False

    def wait_for_prompt(self) -> str:
        """Wait for the command's end. Returns its output, or raises `TimeoutError`."""
        return self._wait(lambda: _PROMPT in self._output)

    def wait_for(self, output: Callable[[str], bool]) -> None:
        """Wait until a command that keeps running, maybe in the background, has this output. Raises
        `TimeoutError` with its actual output."""
        self.keeps_running = True
        self._wait(lambda: output(self._shown()))

    def _wait(self, condition: Callable[[], bool]) -> str:
        with self._more:
            if not self._more.wait_for(condition, PATIENCE_S):
                raise TimeoutError(self._shown())
            return self._shown()

    def _shown(self) -> str:
        return self._output.replace(_PROMPT, "")

    def close(self) -> None:
        """Clean up, once its machine is gone."""
        self._process.wait()
        self._reader.join()
        os.close(self._fd)


class Machine:
    """The machine of the terminals."""

    def __init__(self, pid: int, environment: Mapping[str, str]) -> None:
        self._enter = ["nsenter", f"--target={pid}", "--net", "--mount", "--pid"]
        self._enter += ["env", f"--chdir={ROOT}"]
        self._environment = environment
        self.terminals: list[Terminal] = []
        self.processes: list[subprocess.Popen[bytes]] = []

    def terminal(self) -> Terminal:
        """The last terminal in which something can be typed, or a new one."""
        for terminal in reversed(self.terminals):
            if not terminal.keeps_running:
                return terminal
        self.terminals.append(Terminal(self._enter, self._environment))
        return self.terminals[-1]

    def start(self, *command: str) -> None:
        """Start a process without a terminal."""
        self.processes.append(subprocess.Popen([*self._enter, *command], cwd=ROOT))

    def close(self) -> None:
        """Clean up, once the machine and all its processes are gone."""
        for process in self.processes:
            process.wait()
        for terminal in self.terminals:
            terminal.close()


class NoMachine(Exception):
    """Why no machine can be made here."""


@contextmanager
def machine(folder: Path, environment: Mapping[str, str]) -> Iterator[Machine]:
    """A new machine. Needs root. Raises `NoMachine`."""
    flags = ["--net", "--mount", "--pid", "--fork", "--mount-proc", "--kill-child"]
    layer = str(folder)
    if shutil.which("unshare") is None:
        raise NoMachine("there is no unshare here")
    with subprocess.Popen(
        ["unshare", *flags, "bash", "-c", _BOOT, "boot", str(ROOT), layer],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as outside, ExitStack() as exits:  # fmt: skip
        assert outside.stdout and outside.stderr  # noqa: PT018 - for mypy
        try:
            if outside.stdout.readline() != "up\n":
                raise NoMachine(outside.stderr.read().strip())
            children = Path(f"/proc/{outside.pid}/task/{outside.pid}/children").read_text()
            made = Machine(int(children), environment)
            exits.callback(made.close)
            yield made
        finally:
            outside.kill()
