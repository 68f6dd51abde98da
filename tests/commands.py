"""Shell commands as people type them, run in the project's folder."""

import asyncio
import os
import signal
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any

import yaml

from lab.stack import http
from scripts.lib.project import ROOT


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
    *arguments: str | Path,
    folder: Path,
    settings: Mapping[str, str] = MappingProxyType({}),
    out: int = asyncio.subprocess.PIPE,
    **more: str,
) -> AsyncIterator[asyncio.subprocess.Process]:
    """A command in its own process group, all of which is killed afterwards."""
    process = await asyncio.create_subprocess_exec(
        *map(str, arguments),
        cwd=ROOT,
        env={**os.environ, "DACA_DATA_DIR": str(folder / "data"), **settings, **more},
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
            line = os.fsdecode(await process.stdout.readline())
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
