"""One `scripts/run.sh`, started with nohup to listen for other machines, while it runs."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import pytest_asyncio

from lab.stack import eventually, render_run_file
from tests.commands import READY, ask, command, output_of, ports_of, read_until, stopped, typed

pytestmark = pytest.mark.asyncio(loop_scope="module")


@dataclass(frozen=True)
class Running:
    process: asyncio.subprocess.Process
    folder: Path
    start: tuple[str | Path, ...]
    port: int
    shown: str


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def running(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Running]:
    folder = tmp_path_factory.mktemp("running")
    run_file = render_run_file(folder)
    start = ("scripts/run.sh", "--direct", "--run-file", run_file)
    host = "0.0.0.0"  # noqa: S104 - as people set it
    async with command("nohup", *start, folder=folder, DACA_HOST=host) as process:
        shown = await read_until(process, READY)
        yield Running(process, folder, start, ports_of(run_file)["http"], shown)


async def test_listening_for_other_machines_is_warned_about(running: Running) -> None:
    assert "WARNING" in running.shown
    assert (await typed(running.shown))["message_count"] == 5
    status = await output_of("scripts/status.sh", DACA_DATA_DIR=str(running.folder / "data"))
    assert "DOWN" not in status
    logs = [path.read_text() for path in (running.folder / "data/logs").iterdir()]
    assert any("APP_API_TOKEN is not set" in log for log in logs)


async def test_a_second_start_is_refused_in_one_line_and_leaves_the_logs(
    running: Running,
) -> None:
    with unchanged(running.folder / "data/logs"):
        async with command(*running.start, folder=running.folder) as second:
            told, _ = await second.communicate()
    assert second.returncode == 1
    pid = running.process.pid
    expected = (
        f"scripts/run.sh: {running.folder}/data is in use by another scripts/run.sh, process"
        f" {pid}: end that (kill {pid}), or set DACA_DATA_DIR to another folder\n"
    )
    assert told.decode() == expected
    assert await ask(running.port, "bob") == 3


@contextmanager
def unchanged(folder: Path) -> Iterator[None]:
    def contents() -> dict[Path, bytes]:
        return {path: path.read_bytes() for path in folder.iterdir()}

    before = contents()
    yield
    assert contents() == before


async def test_a_killed_service_is_started_again(running: Running) -> None:
    assert await ask(running.port) is not None
    pid = await output_of("pgrep", "-P", str(running.process.pid), "-f", "analytics_service")
    os.kill(int(pid), signal.SIGKILL)
    await read_until(running.process, "killed by SIGKILL")

    async def next_count() -> bool:
        return await ask(running.port) is not None

    await eventually(next_count, expected=True)


async def test_the_stack_outlives_its_terminal_under_nohup(running: Running) -> None:
    running.process.send_signal(signal.SIGHUP)
    await asyncio.sleep(0.5)
    assert await ask(running.port, "dora") == 0
    await stopped(running.process, signal.SIGTERM)
