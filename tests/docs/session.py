"""The environment of a session, and the check of its output."""

import os
from pathlib import Path

from lab.machine import tool
from tests.docs.likeness import is_like, plain
from tests.docs.terminal import PATIENCE_S, Machine
from tests.docs.text import Step


def environment(folder: Path) -> dict[str, str]:
    """The environment of a new user, with the programs that the scripts have installed."""
    home = folder / "home"
    (home / ".dapr/bin").mkdir(parents=True)
    (home / ".dapr/bin/daprd").symlink_to(tool("DAPRD"))
    programs = [str(tool(name).parent) for name in ("DAPR_CLI", "GRPCURL")]
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    # Without it, the scripts would replace a .venv of another Python than their default.
    kept = {name: value for name, value in os.environ.items() if name == "UV_PYTHON"}
    return kept | {
        "HOME": str(home),
        "PATH": ":".join([*programs, os.environ["PATH"]]),
        "LANG": "C.UTF-8",
        "XDG_CACHE_HOME": str(cache),
        "UV_OFFLINE": "1",
        "DAPR_HOST_IP": "127.0.0.1",  # as there is no network
    }


def run_step(step: Step, ours: Machine) -> list[str]:
    """Run a step. Returns a list with a report if its output isn't as expected, else empty."""
    if step.command in ("<Ctrl-C>", "<ends>"):
        [*_, terminal] = (terminal for terminal in ours.terminals if terminal.keeps_running)
        terminal.wait_for_end(ctrl_c=step.command == "<Ctrl-C>")
        return []
    terminal = ours.terminal()
    terminal.start(step.command)
    try:
        if step.keeps_running:
            terminal.wait_for(lambda shown: is_like(shown, step.expected, goes_on=True))
            return []
        shown = terminal.wait_for_prompt()
    except TimeoutError as late:
        raise TimeoutError(report_of(step, str(late)) + f"\n(after {PATIENCE_S} s)") from None
    return [] if is_like(shown, step.expected) else [report_of(step, shown)]


def report_of(step: Step, shown: str) -> str:
    expected = "\n".join(step.expected)
    return f"{step.where}:\n$ {step.command}{plain(shown)}--- instead of\n{expected}"
