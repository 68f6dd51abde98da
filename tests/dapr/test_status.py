"""What scripts/status.sh says about a running system."""

import asyncio
import signal
import sys
from pathlib import Path

import pytest

from lab.stack import RunningStack, eventually, render_run_file
from scripts.lib.project import ROOT
from tests.commands import ports_of
from tests.faults.conftest import database

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def status(run_file: Path) -> tuple[int, str]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "scripts.status", "--run-file", str(run_file),
        cwd=ROOT, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, _ = await process.communicate()
    assert process.returncode is not None
    return process.returncode, out.decode()


async def test_the_status_shows_what_is_up_and_how_it_is_reached(system: RunningStack) -> None:
    await system.chat_with("somebody")

    async def last_call_is_ok() -> bool:
        _, text = await status(system.run_file)
        return "to be counted" not in text and "OK" in text

    await eventually(last_call_is_ok, expected=True)
    code, text = await status(system.run_file)
    assert code == 0
    assert text.count("SERVING") == 2
    assert text.count("daprd 1.") == 2
    assert "asked through our sidecar" in text
    assert "offline" in text


async def test_the_status_names_what_is_down(system: RunningStack) -> None:
    service = system.stack.services[system.analytics]
    await service.stop(signal.SIGKILL)
    try:
        await system.chat_with("somebody")
        code, text = await status(system.run_file)
    finally:
        await service.start()
    await system.wait_until_ready()
    assert code == 1
    lines = dict(line.split("  ", 1) for line in text.splitlines())
    assert lines[system.analytics].strip() == "DOWN"
    assert "can't be reached" in lines["analytics"]
    assert "to be counted" in lines["outbox"]


async def test_an_app_without_its_database_is_not_up(system: RunningStack) -> None:
    async def exit_code() -> int:
        code, _ = await status(system.run_file)
        return code

    file = database(system, system.chat, "chat.db")
    away = file.rename(file.with_suffix(".away"))
    try:
        await eventually(exit_code, expected=1)
    finally:
        away.rename(file)
    await eventually(exit_code, expected=0)


async def test_another_program_on_chats_port_is_no_chat(tmp_path: Path) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b'HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n{"detail": "another program"}')
        writer.close()

    run_file = render_run_file(tmp_path)
    port = ports_of(run_file)["http"]
    async with await asyncio.start_server(answer, "127.0.0.1", port):
        code, text = await status(run_file)
    assert code == 1
    assert f"DOWN: the answer 200 and no status at 127.0.0.1:{port}" in text


async def test_a_long_step_shows_progress(tmp_path: Path) -> None:
    script = (
        ". scripts/lib/env.sh; PROGRESS_EVERY_S=2;"
        f" with_progress {tmp_path}/log 15 bash -c 'echo step 7; sleep 2.5'"
    )
    process = await asyncio.create_subprocess_exec(
        "bash", "-c", script, cwd=ROOT, stderr=asyncio.subprocess.PIPE
    )
    _, told = await process.communicate()
    assert (process.returncode, told) == (0, b"daca:   2 s of about 15 s: step 7\n")
