"""However it is stopped, `scripts/run.sh` leaves nothing behind."""

import asyncio
import os
import signal
import sys
from pathlib import Path

import pytest
import yaml

from lab.stack import render_run_file
from scripts.lib.probes import is_free
from tests.commands import (
    READY,
    ask,
    children,
    command,
    gone,
    ports_of,
    read_until,
    stopped,
)


async def pid_of(process: asyncio.subprocess.Process, text: str) -> int:
    return next(pid for pid, run in (await children(process)).items() if text in run)


def with_an_app_that_hangs(run_file: Path) -> Path:
    config = yaml.safe_load(run_file.read_text())
    script = "trap '' TERM INT HUP; while :; do sleep 60; done"
    app = {"appID": "hangs", "appDirPath": ".", "command": ["sh", "-c", script]}
    config["apps"].append(app)
    run_file.write_text(yaml.safe_dump(config))
    return run_file


async def test_a_stop_ends_hanging_processes_too(tmp_path: Path) -> None:
    run_file = render_run_file(tmp_path)
    ports = ports_of(run_file)
    with_an_app_that_hangs(run_file)
    async with command(
        "scripts/run.sh", "--direct", "--run-file", run_file, folder=tmp_path
    ) as process:
        await read_until(process, READY)
        for name in ("chat_service", "analytics_service"):
            os.kill(await pid_of(process, name), signal.SIGSTOP)
        await stopped(process)
    assert [use for use, port in ports.items() if not is_free("127.0.0.1", port)] == []


async def test_a_second_ctrl_c_ends_everything_at_once(tmp_path: Path) -> None:
    run_file = with_an_app_that_hangs(render_run_file(tmp_path))
    async with command(
        "scripts/run.sh", "--direct", "--run-file", run_file, folder=tmp_path
    ) as process:
        await read_until(process, READY)
        running = await children(process)
        process.send_signal(signal.SIGINT)
        await read_until(process, "stopping")
        process.send_signal(signal.SIGINT)
        assert await asyncio.wait_for(process.wait(), 8) == 1
    await gone(running)


async def test_ctrl_c_ends_a_stack_that_is_not_ready(tmp_path: Path) -> None:
    async with command(
        "scripts/run.sh", "--direct", "--run-file", render_run_file(tmp_path), folder=tmp_path
    ) as process:
        await read_until(process, "starting")
        await stopped(process)


@pytest.mark.parametrize("module", ["scripts.run_stack", "chat_service", "analytics_service"])
async def test_ctrl_c_during_imports_prints_no_traceback(module: str, tmp_path: Path) -> None:
    start = (sys.executable, "-X", "importtime", "-m", module, "--help")
    async with command(*start, folder=tmp_path) as process:
        await read_until(process, "pydantic")
        process.send_signal(signal.SIGINT)
        told, _ = await process.communicate()
    assert process.returncode == -signal.SIGINT
    assert b"Traceback" not in told


async def test_a_killed_runner_leaves_no_orphans(tmp_path: Path) -> None:
    run_file = render_run_file(tmp_path)
    port, plain = ports_of(run_file)["http"], run_file.read_text()
    with_an_app_that_hangs(run_file)
    start = ("scripts/run.sh", "--run-file", run_file)
    async with command(*start, folder=tmp_path) as process:
        await read_until(process, READY)
        assert await ask(port) == 5
        running = await children(process)
        process.kill()
        await process.wait()
    async with command(*start, folder=tmp_path) as second:
        told, _ = await second.communicate()
    assert "what a killed stack has left in" in told.decode()
    await gone(running)
    run_file.write_text(plain)
    async with command(*start, "--direct", folder=tmp_path) as third:
        await read_until(third, READY)
        assert await ask(port) == 6
        await stopped(third)
