"""A process that dies is restarted, and doesn't stop others."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import yaml

from lab.stack import eventually
from scripts.lib.project import StackError
from scripts.stack import Stack


def stack_of(folder: Path, **scripts: str) -> Stack:
    """A stack of other people's apps, which are shell scripts."""
    apps = [
        {"appID": name, "appDirPath": ".", "command": ["sh", "-c", script]}
        for name, script in scripts.items()
    ]
    (folder / "dapr.yaml").write_text(yaml.safe_dump({"version": 1, "apps": apps}))
    return Stack(folder, daprd=None, log_dir=folder / "logs")


@asynccontextmanager
async def supervised(stack: Stack) -> AsyncIterator[asyncio.Task[None]]:
    await stack.start()
    task = asyncio.create_task(stack.supervise())
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.wait([task])
        await stack.stop()


async def test_killed_processes_are_restarted_even_without_the_log_folder(
    tmp_path: Path,
) -> None:
    stack = stack_of(tmp_path, one="echo here; sleep 60", two="sleep 60")
    async with supervised(stack) as supervising:
        one = stack.services["one"]
        assert one.process
        first = one.process.pid
        for path in (tmp_path / "logs").iterdir():
            path.unlink()
        (tmp_path / "logs").rmdir()
        one.signal(signal.SIGKILL)

        async def runs_again() -> bool:
            return bool(one.process and one.process.pid != first and "here" in one.last_words())

        await eventually(runs_again, expected=True)
        assert not supervising.done()
        assert not stack.services["two"].ending()


async def test_an_app_that_exits_with_0_is_not_restarted(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    stack = stack_of(tmp_path, caller="exit 0", other="sleep 60")
    async with supervised(stack) as supervising:
        await asyncio.sleep(0.5)
        assert not supervising.done()
    assert capfd.readouterr().out == "caller is done\n"


async def test_other_peoples_apps_that_keep_failing_are_not_restarted(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    stack = stack_of(tmp_path, caller="echo no such order; exit 3", other="sleep 60")
    told = ""
    async with supervised(stack) as supervising:

        async def gave_up() -> bool:
            nonlocal told
            told += capfd.readouterr().out
            return "The others go on." in told

        await eventually(gave_up, expected=True, timeout_s=60)
        assert not supervising.done()
        assert not stack.services["other"].ending()
    assert "caller keeps ending; its last words:\n    no such order" in told


async def test_our_service_that_keeps_failing_ends_the_stack_with_an_error(
    tmp_path: Path,
) -> None:
    stack = stack_of(tmp_path, one="echo out of memory; exit 3")
    stack.services["one"].is_vital = True
    async with supervised(stack) as supervising:
        with pytest.raises(StackError, match=r"one keeps ending; its last words:\n.*out of memory"):
            await supervising


async def test_a_program_that_is_deleted_stops_no_other_app(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    stack = stack_of(tmp_path, one="sleep 60", other="sleep 60")
    async with supervised(stack) as supervising:
        stack.services["one"].command = [str(tmp_path / "gone")]
        stack.services["one"].signal(signal.SIGKILL)
        told = ""

        async def said() -> bool:
            nonlocal told
            told += capfd.readouterr().out
            return "one can't be started: " in told

        await eventually(said, expected=True)
        assert not supervising.done()


async def test_a_missing_program_is_named(tmp_path: Path) -> None:
    stack = stack_of(tmp_path, one="sleep 60")
    stack.services["one"].command = [".venv/bin/python", "-m", "one"]
    with pytest.raises(StackError, match=r"one can't be started: .*\.venv/bin/python"):
        await stack.start()


async def test_a_stop_ends_hung_and_suspended_apps_and_gives_each_its_own_time(
    tmp_path: Path,
) -> None:
    hangs = "trap '' TERM; sleep 60 & wait; sleep 60"
    # They are stopped from the last to the first. The hanging ones use up all their time.
    stack = stack_of(
        tmp_path, polite="trap 'exit 7' TERM; sleep 60 & wait", suspended="sleep 60",
        both=hangs, hung=hangs,
    )  # fmt: skip
    await stack.start()
    await asyncio.sleep(0.5)
    for name in ("suspended", "both"):
        stack.services[name].signal(signal.SIGSTOP)
    began = asyncio.get_running_loop().time()
    await stack.stop()
    assert asyncio.get_running_loop().time() - began < 20
    assert {service.name: service.ending() for service in stack.apps} == {
        "polite": "exit code 7",
        "suspended": "killed by SIGTERM",
        "both": "killed by SIGKILL",
        "hung": "killed by SIGKILL",
    }


# Unlike this one, a shell of the name `sh` may become its last command.
WRAPPER = "sh -c '{}' & wait"


def is_dead(pid: str) -> bool:
    """Whether it has ended. The system's first process may take seconds to notice that."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] == "Z"
    except FileNotFoundError:
        return True


async def test_a_stop_waits_for_what_a_wrapper_has_started(tmp_path: Path) -> None:
    ends = 'trap "sleep 0.5; touch ended; exit" TERM; while sleep 0.1; do :; done'
    stack = stack_of(tmp_path, slow=WRAPPER.format(ends))
    await stack.start()
    await asyncio.sleep(0.5)
    await stack.stop()
    assert (tmp_path / "ended").exists()


async def test_what_a_wrapper_has_started_is_killed_if_it_hangs(tmp_path: Path) -> None:
    hangs = 'trap "" TERM; echo $$ >pid; while sleep 0.1; do :; done'
    stack = stack_of(tmp_path, hung=WRAPPER.format(hangs))
    await stack.start()
    await asyncio.sleep(0.5)
    await stack.services["hung"].stop(timeout_s=0.5)
    pid = (tmp_path / "pid").read_text().strip()
    await eventually(lambda: asyncio.to_thread(is_dead, pid), expected=True)


async def test_what_a_killed_wrapper_has_started_does_not_keep_its_port(tmp_path: Path) -> None:
    stack = stack_of(tmp_path, one=WRAPPER.format("echo $$ >>pids; sleep 60; :"))
    pids = tmp_path / "pids"
    notes: list[str] = []
    stack.services["one"].note = notes.append
    async with supervised(stack):

        async def started() -> int:
            return len(pids.read_text().split()) if pids.exists() else 0

        await eventually(started, expected=1)
        one = stack.services["one"]
        assert one.process
        one.process.kill()
        await eventually(started, expected=2)
        first = pids.read_text().split()[0]
        await eventually(lambda: asyncio.to_thread(is_dead, first), expected=True)
    begun, ended = ({note[1:] for note in notes if note[0] == sign} for sign in "+-")
    assert len(begun) == 2
    assert ended == begun


async def test_a_closed_output_does_not_end_the_program(tmp_path: Path) -> None:
    read_end, write_end = os.pipe()
    os.close(read_end)
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", "from scripts.lib.project import say; say('ended'); say('again')",
        stdout=write_end,
    )  # fmt: skip
    os.close(write_end)
    # 120: the interpreter could not flush its output.
    assert await process.wait() in (0, 120)
