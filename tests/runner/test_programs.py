"""Scripts install missing programs. Ctrl-C ends them, too."""

import asyncio
import os
import signal
import time
from pathlib import Path

import pytest

from lab.stack import eventually, render_run_file
from scripts.lib.programs import get
from scripts.lib.project import ROOT, StackError
from tests.commands import READY, command, read_until


def script(folder: Path, text: str) -> str:
    """Write a script with this text. Returns its path relative to scripts/."""
    (folder / "install.sh").write_text(text)
    return os.path.relpath(folder / "install.sh", ROOT / "scripts")


async def test_a_program_is_where_its_script_says(tmp_path: Path) -> None:
    talks = script(tmp_path, 'echo "getting $1" >&2; echo noise; echo "/opt/$1"')
    assert await get("daprd", script=talks, without="no Dapr") == Path("/opt/daprd")


async def test_a_failed_installation_is_reported(tmp_path: Path) -> None:
    fails = script(tmp_path, "echo /opt/half; exit 1")
    with pytest.raises(StackError, match="no Dapr, no sidecars"):
        await get("daprd", script=fails, without="no Dapr, no sidecars")


async def test_a_stop_ends_the_script(tmp_path: Path) -> None:
    slow = script(tmp_path, f"echo $$ >{tmp_path}/pid; sleep 60")
    getting = asyncio.create_task(get("daprd", script=slow, without="no Dapr"))

    async def begun() -> bool:
        return (tmp_path / "pid").exists() and bool((tmp_path / "pid").read_text())

    await eventually(begun, expected=True)
    getting.cancel()
    await asyncio.wait([getting], timeout=10)
    assert getting.cancelled()
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)


@pytest.mark.parametrize("turns", range(4))
async def test_a_stop_ends_a_script_that_has_just_begun(tmp_path: Path, turns: int) -> None:
    getting = asyncio.create_task(get("daprd", script=script(tmp_path, "sleep 60"), without=""))
    for _ in range(turns):
        await asyncio.sleep(0)
    time.sleep(0.1)  # noqa: ASYNC251 - the script starts before asyncio has connected its output
    getting.cancel()
    await asyncio.wait([getting], timeout=10)
    assert getting.cancelled()


async def test_a_stack_can_run_without_a_program_that_is_being_installed(tmp_path: Path) -> None:
    run_file = render_run_file(tmp_path)
    start = ("scripts/run.sh", "--run-file", run_file)
    # Without a cache, a download, or Go.
    alone = {"XDG_CACHE_HOME": str(tmp_path / "cache"), "HOME": str(tmp_path)}
    slow = tmp_path / "bin/curl"
    slow.parent.mkdir()
    slow.write_text("#!/bin/sh\necho downloading\nexec sleep 60\n")
    slow.chmod(0o755)
    alone["PATH"] = f"{slow.parent}:{os.environ['PATH']}"
    async with command(*start, folder=tmp_path, settings=alone) as waiting:
        await read_until(waiting, "downloading")
        async with command(*start, "--direct", folder=tmp_path) as direct:
            await read_until(direct, READY)
            direct.send_signal(signal.SIGINT)
            assert await asyncio.wait_for(direct.wait(), 60) == 0
        waiting.send_signal(signal.SIGTERM)
        out, _ = await asyncio.wait_for(waiting.communicate(), 60)
    assert "Traceback" not in out.decode()
