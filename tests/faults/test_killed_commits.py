"""A process that is killed while it commits loses no acknowledged write."""

import random
import sqlite3
import subprocess
import sys
import threading
from contextlib import closing
from pathlib import Path

import pytest

from tests.fault_table import FULL, Report

_TIMES = 200 if FULL else 10
_STEP = 1_000_000


def write_until_killed(path: Path, first: int) -> set[int]:
    """The numbers that were acknowledged before the kill."""
    command = [sys.executable, "-m", "tests.faults.committer", str(path), str(first)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout
        acknowledged = [process.stdout.readline()]
        timer = threading.Timer(random.uniform(0, 0.05), process.kill)  # noqa: S311
        timer.start()
        acknowledged += process.stdout.readlines()
    return {int(line) for line in acknowledged if line.endswith(b"\n")}


@pytest.mark.timeout(300)
def test_a_killed_writer_loses_no_acknowledged_write(tmp_path: Path, report: Report) -> None:
    path = tmp_path / "numbers.db"
    acknowledged: set[int] = set()
    damaged = []
    for n in range(_TIMES):
        acknowledged |= write_until_killed(path, n * _STEP)
        with closing(sqlite3.connect(path)) as db:
            (verdict,) = db.execute("PRAGMA integrity_check").fetchone()
            kept = {number for (number,) in db.execute("SELECT number FROM numbers")}
        if verdict != "ok":
            damaged.append(verdict)
    lost = acknowledged - kept
    figures = {"kills": _TIMES, "acknowledged": len(acknowledged), "lost": len(lost)}
    figures["damaged"] = len(damaged)
    assert len(acknowledged) >= _TIMES
    bar = {"no acknowledged write lost": not lost, "integrity ok": not damaged}
    report("SIGKILL in mid-commit", figures, bar)
