"""What scripts/run.sh promises, with real sidecars."""

import asyncio
import json
import os
import shutil
import signal
import socket
from contextlib import ExitStack, suppress
from pathlib import Path

from lab.machine import free_port
from lab.stack import eventually, http, render_run_file
from scripts.lib.probes import is_free
from tests.commands import READY, ask, command, output_of, ports_of, read_until, stopped


async def test_run_sh_serves_remembers_and_lets_the_services_finish_even_when_nobody_reads_it(
    tmp_path: Path,
) -> None:
    run_file = render_run_file(tmp_path)
    ports = ports_of(run_file)
    async with command("scripts/run.sh", "--run-file", run_file, folder=tmp_path) as process:
        shown = await read_until(process, READY)
        assert f"http://127.0.0.1:{ports['http']}/ui/" in shown
        assert [await ask(ports["http"]), await ask(ports["http"])] == [5, 6]
        await stopped(process, signal.SIGHUP)
    assert [use for use, port in ports.items() if not is_free("127.0.0.1", port)] == []
    shutil.rmtree(tmp_path / "data/logs")
    read_end, write_end = os.pipe()

    async def chat_serves() -> int:
        url = f"http://127.0.0.1:{ports['http']}/readyz"
        with suppress(OSError):
            return (await asyncio.to_thread(http, "GET", url))[0]
        return 0

    async with command(
        "scripts/run.sh", "--direct", "--run-file", run_file, folder=tmp_path, out=write_end
    ) as process:
        os.close(write_end)
        await eventually(chat_serves, expected=200, timeout_s=90)
        assert await ask(ports["http"]) == 7
        os.close(read_end)
        process.send_signal(signal.SIGINT)
        await asyncio.wait_for(process.wait(), 60)
    assert [use for use, port in ports.items() if not is_free("127.0.0.1", port)] == []
    for log in (tmp_path / "data/logs").iterdir():
        assert "stopping" in log.read_text(), f"{log.name}: it was killed"


async def test_run_sh_says_which_ports_are_taken(tmp_path: Path) -> None:
    run_file = render_run_file(tmp_path)
    taken = [ports_of(run_file)[use] for use in ("http", "chat metrics")]
    with ExitStack() as listeners:
        for port in taken:
            listeners.enter_context(socket.create_server(("127.0.0.1", port)))
        async with command(
            "scripts/run.sh", "--direct", "--run-file", run_file, folder=tmp_path
        ) as process:
            out, _ = await process.communicate()
    assert process.returncode == 1
    for port in taken:
        assert f"port {port} (chat-service" in out.decode()
    assert "`ss -ltnp` shows whose they are" in out.decode()
    assert "see docs/configuration.md" in out.decode()


async def test_run_sh_brings_a_real_language_model(tmp_path: Path) -> None:
    run_file = render_run_file(tmp_path)
    ports = {**ports_of(run_file), "model": free_port()}
    async with command(
        "scripts/run.sh", "--direct", "--run-file", run_file, folder=tmp_path,
        CHAT_MODEL_PROVIDER="local", LOCAL_MODEL_PORT=str(ports["model"]),
    ) as process:  # fmt: skip
        await read_until(process, READY)
        url = f"http://localhost:{ports['http']}"
        body = {"user_id": "alice", "text": "Tell me about dogs."}
        status, answer = await asyncio.to_thread(http, "POST", f"{url}/chat/", body)
        assert status == 200, answer
        assert (answer["model"], answer["message_count"]) == ("smollm2-135m", 5)
        assert answer["reply"].strip()
        assert "offline" not in answer["reply"]
        stream = await output_of(
            "curl", "-sN", f"{url}/chat/stream", "-d", json.dumps(body | {"text": "And cats?"})
        )
        assert stream.count("event: delta") > 1
        assert stream.count("event: completed") == 1
        # Nobody else's page or program may use the model, or read its state.
        status, _ = await asyncio.to_thread(http, "GET", f"http://127.0.0.1:{ports['model']}/slots")
        assert status == 401
        await stopped(process)
    assert [use for use, port in ports.items() if not is_free("127.0.0.1", port)] == []
