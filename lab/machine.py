"""Free ports of this machine, files that are open, how to be somebody other than root, and the
programs that the scripts have installed."""

import contextlib
import os
import pwd
import random
import shutil
import socket
from pathlib import Path

_given_ports: set[int] = set()
# Tests run in several processes at once. Each process has its own share of the ports.
_MOST_WORKERS = 8
_WORKER = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % _MOST_WORKERS


def free_port() -> int:
    """A free port, never returned twice. It is below the system's ephemeral ports, as daprd uses
    one of those for its internal port, and might choose the port that is returned here."""
    while True:
        port = random.randrange(20_000 + _WORKER, 30_000, _MOST_WORKERS)  # noqa: S311
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            if port not in _given_ports:
                _given_ports.add(port)
                return port


def open_files() -> int:
    """How many files, with sockets and pipes, this process has open."""
    return len([*Path("/proc/self/fd").iterdir()])


def nobody() -> pwd.struct_passwd | None:
    """The user for programs that refuse to run as root; None if we are not root."""
    return pwd.getpwnam("nobody") if os.geteuid() == 0 else None


def as_nobody(command: list[str]) -> list[str]:
    """The command, run by `nobody` if we are root. To change the user, `subprocess` would have to
    fork, and a fork of a process that uses gRPC may die before it runs the program."""
    if not (user := nobody()):
        return command
    ids = (f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups")
    return ["setpriv", *ids, "--", *command]


def tool(variable: str) -> Path:
    """A program that scripts/test.sh has installed and names in the environment."""
    path = os.environ.get(variable) or shutil.which(variable.lower())
    assert path, f"{variable} is not set: run the tests through scripts/test.sh"
    return Path(path)
