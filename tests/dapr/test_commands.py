"""What the README tells people to type, against the real thing."""

import asyncio
import json
import os
import signal
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import yaml

from lab.machine import free_port, tool
from lab.stack import eventually, http, render_run_file
from scripts.service import ROOT


async def output_of(*command: str | Path, **environment: str) -> str:
    process = await asyncio.create_subprocess_exec(
        *map(str, command),
        cwd=ROOT,
        env={**os.environ, **environment},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate()
    assert process.returncode == 0, f"{command}: {out.decode()}{err.decode()}"
    return out.decode()


@asynccontextmanager
async def command(
    *arguments: str | Path, folder: Path, out: int = asyncio.subprocess.PIPE, **environment: str
) -> AsyncIterator[asyncio.subprocess.Process]:
    """A command in a process group of its own, all of which is gone afterwards."""
    process = await asyncio.create_subprocess_exec(
        *map(str, arguments),
        cwd=ROOT,
        env={**os.environ, "DACA_DATA_DIR": str(folder / "data"), **environment},
        stdout=out,
        stderr=asyncio.subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            os.killpg(process.pid, signal.SIGTERM)
            await process.communicate()


async def read_until(process: asyncio.subprocess.Process, text: str) -> str:
    assert process.stdout is not None
    seen = ""
    async with asyncio.timeout(60):
        while text not in seen:
            line = (await process.stdout.readline()).decode()
            assert line, f"it ended without {text!r}:\n{seen}"
            seen += line
    return seen


def ports_of(run_file: Path) -> dict[str, int]:
    analytics, chat = yaml.safe_load(run_file.read_text())["apps"]
    return {
        "http": int(chat["env"]["CHAT_HTTP_PORT"]),
        "chat": chat["appPort"],
        "analytics": analytics["appPort"],
        "sidecar http": chat["daprHTTPPort"],
        "sidecar grpc": chat["daprGRPCPort"],
        "sidecar metrics": chat["metricsPort"],
        "chat metrics": int(chat["env"]["CHAT_METRICS_PORT"]),
        "analytics metrics": int(analytics["env"]["ANALYTICS_METRICS_PORT"]),
    }


def is_free(port: int) -> bool:
    try:
        socket.create_server(("127.0.0.1", port)).close()
    except OSError:
        return False
    return True


async def ask(port: int, user_id: str = "alice") -> Any:
    body = {"user_id": user_id, "text": "How many messages have I sent?"}
    status, answer = await asyncio.to_thread(http, "POST", f"http://localhost:{port}/chat/", body)
    assert status == 200
    return answer["message_count"]


@pytest.mark.parametrize(
    ("mode", "number"),
    [([], signal.SIGINT), (["--direct"], signal.SIGTERM)],
    ids=["sidecars and Ctrl-C", "direct and SIGTERM"],
)
async def test_run_sh_serves_remembers_and_leaves_nothing_behind(
    tmp_path: Path, mode: list[str], number: signal.Signals
) -> None:
    run_file = render_run_file(tmp_path)
    ports = ports_of(run_file)
    for first in (5, 7):
        async with command(
            "scripts/run.sh", "--run-file", run_file, *mode, folder=tmp_path
        ) as process:
            shown = await read_until(process, "Ctrl-C stops everything")
            assert f"http://localhost:{ports['http']}" in shown
            assert [await ask(ports["http"]), await ask(ports["http"])] == [first, first + 1]
            process.send_signal(number)
            assert await asyncio.wait_for(process.wait(), 20) == 0
        assert [use for use, port in ports.items() if not is_free(port)] == []


async def test_run_sh_lets_the_services_finish_even_when_nobody_reads_its_output(
    tmp_path: Path,
) -> None:
    run_file = render_run_file(tmp_path)
    ports = ports_of(run_file)
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
        await eventually(chat_serves, expected=200, timeout_s=30)
        os.close(read_end)
        process.send_signal(signal.SIGINT)
        await asyncio.wait_for(process.wait(), 20)
    assert [use for use, port in ports.items() if not is_free(port)] == []
    for log in (tmp_path / "data/logs").iterdir():
        assert "stopping" in log.read_text(), f"{log.name}: it was killed"


@pytest.mark.parametrize("use", ["http", "chat metrics"])
async def test_run_sh_says_which_port_is_taken(tmp_path: Path, use: str) -> None:
    run_file = render_run_file(tmp_path)
    port = ports_of(run_file)[use]
    with socket.create_server(("127.0.0.1", port)):
        async with command(
            "scripts/run.sh", "--direct", "--run-file", run_file, folder=tmp_path
        ) as process:
            out, _ = await process.communicate()
    assert process.returncode == 1
    assert f"port {port} (chat-service" in out.decode()


async def test_run_sh_shows_a_bad_setting_at_once(tmp_path: Path) -> None:
    async with command(
        "scripts/run.sh", "--direct", "--run-file", render_run_file(tmp_path),
        folder=tmp_path, CHAT_TIMEOUT_S="soon",
    ) as process:  # fmt: skip
        out, _ = await process.communicate()
    assert process.returncode == 1
    assert "CHAT_TIMEOUT_S" in out.decode()


async def test_run_sh_starts_a_killed_service_again(tmp_path: Path) -> None:
    run_file = render_run_file(tmp_path)
    ports = ports_of(run_file)
    async with command(
        "scripts/run.sh", "--direct", "--run-file", run_file, folder=tmp_path
    ) as process:
        await read_until(process, "Ctrl-C stops everything")
        assert await ask(ports["http"]) == 5
        pid = await output_of("pgrep", "-P", str(process.pid), "-f", "analytics_service")
        os.kill(int(pid), signal.SIGKILL)
        await read_until(process, "killed by SIGKILL")

        async def next_count() -> bool:
            return await ask(ports["http"]) is not None

        await eventually(next_count, expected=True)


async def test_run_sh_brings_a_real_language_model(tmp_path: Path) -> None:
    run_file = render_run_file(tmp_path)
    ports = {**ports_of(run_file), "model": free_port()}
    async with command(
        "scripts/run.sh", "--direct", "--run-file", run_file, folder=tmp_path,
        CHAT_MODEL_PROVIDER="local", LOCAL_MODEL_PORT=str(ports["model"]),
    ) as process:  # fmt: skip
        await read_until(process, "Ctrl-C stops everything")
        url = f"http://localhost:{ports['http']}"
        body = {"user_id": "alice", "text": "Tell me about dogs."}
        status, answer = await asyncio.to_thread(http, "POST", f"{url}/chat/", body)
        assert (status, answer["model"], answer["message_count"]) == (200, "smollm2-135m", 5)
        assert answer["reply"].strip()
        assert "offline" not in answer["reply"]
        stream = await output_of(
            "curl", "-sN", f"{url}/chat/stream", "-d", json.dumps(body | {"text": "And cats?"})
        )
        assert stream.count("event: delta") > 1
        assert stream.count("event: completed") == 1
        process.send_signal(signal.SIGINT)
        assert await asyncio.wait_for(process.wait(), 20) == 0
    assert [use for use, port in ports.items() if not is_free(port)] == []


async def test_dapr_run_serves_the_readmes_commands(tmp_path: Path, daprd: Path) -> None:
    run_file = render_run_file(tmp_path)
    analytics_id, chat_id = (a["appID"] for a in yaml.safe_load(run_file.read_text())["apps"])
    ports = ports_of(run_file)
    # Where `dapr init` puts it.
    runtime = tmp_path / "home/.dapr/bin/daprd"
    runtime.parent.mkdir(parents=True)
    runtime.symlink_to(daprd)
    dapr, grpcurl = tool("DAPR_CLI"), tool("GRPCURL")
    async with command(dapr, "run", "-f", run_file, folder=tmp_path, HOME=str(tmp_path / "home")):
        url = f"http://localhost:{ports['http']}"

        async def ready() -> Any:
            try:
                _, body = await asyncio.to_thread(http, "GET", f"{url}/readyz")
            except OSError:
                return None
            return body["analytics"]

        await eventually(ready, "ok", timeout_s=60)
        # Exactly as people type it: curl declares a form, and still sends JSON.
        body = '{"user_id":"alice","text":"How many messages have I sent?"}'
        counts = [
            json.loads(await output_of("curl", "-sX", "POST", f"{url}/chat/", "-d", body))
            for _ in range(2)
        ]
        assert [answer["message_count"] for answer in counts] == [5, 6]

        get = "daca.analytics.v1.AnalyticsService/GetAnalytics"
        services = await output_of(grpcurl, "-plaintext", f"127.0.0.1:{ports['analytics']}", "list")
        assert "daca.analytics.v1.AnalyticsService" in services
        bob = ("-d", '{"user_id":"bob"}')
        direct = await output_of(
            grpcurl, "-plaintext", *bob, f"127.0.0.1:{ports['analytics']}", get
        )
        # The server's reflection has no JSON names, so grpcurl shows the proto's.
        assert json.loads(direct)["analytics"] == {"user_id": "bob", "message_count": "3"}
        proxied = await output_of(
            grpcurl, "-plaintext", "-H", f"dapr-app-id: {analytics_id}", "-import-path", "protos",
            "-proto", "daca/analytics/v1/analytics.proto", *bob,
            f"127.0.0.1:{ports['sidecar grpc']}", get,
        )  # fmt: skip
        assert json.loads(proxied)["analytics"] == {"userId": "bob", "messageCount": "3"}
        reply = await output_of(
            grpcurl, "-plaintext", "-d", '{"user_id":"bob","text":"Hello"}',
            f"127.0.0.1:{ports['chat']}", "daca.chat.v1.ChatService/Chat",
        )  # fmt: skip
        assert json.loads(reply)["message_count"] == "3"

        listed = await output_of(dapr, "list")
        assert analytics_id in listed
        assert chat_id in listed
        invoked = await output_of(
            dapr, "invoke", "--app-id", analytics_id, "--method", "analytics/bob", "--verb", "GET"
        )
        assert '"message_count"' in invoked
