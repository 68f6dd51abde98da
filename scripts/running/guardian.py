"""A process beside the runner that ends the rest of the stack if the runner is killed. Through a
pipe it learns of each process group that begins (`+123`) or has ended (`-123`). Run by its path and
without our packages, as it lives as long as the stack."""

import contextlib
import os
import signal
import subprocess
import sys
import time

_GRACE_S = 10.0


class Guardian:
    """The runner's end of the pipe."""

    def __init__(self, *inherited: int) -> None:
        """The guardian holds the file descriptors `inherited` until everything has ended."""
        read_end, self._pipe = os.pipe()
        self._process = subprocess.Popen(
            [sys.executable, "-I", __file__],
            stdin=read_end,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            pass_fds=inherited,
            # Ctrl-C, and the hangup of a terminal, are for the runner only.
            start_new_session=True,
        )
        os.close(read_end)

    def note(self, line: str) -> None:
        """Tell the guardian of a process group that begins or has ended."""
        with contextlib.suppress(OSError):  # the guardian may have been killed, too
            os.write(self._pipe, f"{line}\n".encode())

    def close(self) -> None:
        """Let the guardian end, once nothing runs any more."""
        os.close(self._pipe)
        with contextlib.suppress(subprocess.TimeoutExpired):  # it may be stopped (SIGSTOP)
            self._process.wait(timeout=1)


def main() -> None:
    """Wait until the runner has ended, and end what it has left."""
    left: set[int] = set()
    for line in sys.stdin:
        pid = int(line[1:])
        note = left.add if line[0] == "+" else left.discard
        note(pid)
    for number in (signal.SIGTERM, signal.SIGKILL):
        for pid in left:
            # A stopped process doesn't see the first signal without the second.
            for each in (number, signal.SIGCONT):
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.killpg(pid, each)
        deadline = time.monotonic() + _GRACE_S
        while any(map(_exists, left)) and time.monotonic() < deadline:
            time.sleep(0.05)


def _exists(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


if __name__ == "__main__":
    main()
