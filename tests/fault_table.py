"""A table of the faults' effects, printed at the end of a test run.

`DACA_FAULTS=full` (scripts/faults.sh) runs them all at length. Otherwise it is a short pass.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Protocol

import pytest

FULL = os.environ.get("DACA_FAULTS") == "full"
PAUSE_S = 0 if FULL else 0.25
"""How long each client of a load waits after each answer. Other tests run beside the short pass,
and need CPU, too."""
full_only = pytest.mark.full_only
"""Only for the full pass, scripts/faults.sh; the short one doesn't select it."""


class Report(Protocol):
    def __call__(
        self,
        fault: str,
        figures: Mapping[str, object],
        bar: Mapping[str, bool],
        speed: Mapping[str, bool] = ...,
    ) -> None: ...


_ROWS = pytest.StashKey[list[tuple[str, str, str, str]]]()


@pytest.fixture
def report(pytestconfig: pytest.Config) -> Report:
    """Adds a fault to the table, and fails if a bar is missed.

    Bars on speed are meaningful only if nothing else runs: those in `speed` apply only to the full
    pass.
    """
    rows = pytestconfig.stash.setdefault(_ROWS, [])

    def add(
        fault: str,
        figures: Mapping[str, object],
        bar: Mapping[str, bool],
        speed: Mapping[str, bool] = MappingProxyType({}),
    ) -> None:
        bar = {**bar, **speed} if FULL else bar
        told = ", ".join(f"{name} {_rounded(value)}" for name, value in figures.items())
        missed = [name for name, met in bar.items() if not met]
        rows.append((fault, told, "; ".join(bar), "MISSED" if missed else "ok"))
        assert not missed, f"{fault}: missed {missed}; {told}"

    return add


def _rounded(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    rows = config.stash.get(_ROWS, [])
    if not rows:
        return
    table = [("fault", "figures", "bar", ""), ("---",) * 4, *rows]
    lines = ["| " + " | ".join(row) + " |" for row in table]
    terminalreporter.section("faults")
    for line in lines:
        terminalreporter.line(line)
    if FULL:
        path = Path(os.environ.get("DACA_FAULTS_TABLE", "data/faults.md"))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join(lines) + "\n")


def leave_out_the_long(config: pytest.Config, items: list[pytest.Item]) -> None:
    left_out = [] if FULL else [item for item in items if item.get_closest_marker("full_only")]
    config.hook.pytest_deselected(items=left_out)
    items[:] = [item for item in items if item not in left_out]
