"""Shell commands as people type them, run in the project's folder."""

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any

import yaml

from lab.stack import eventually, http
from scripts.lib.project import ROOT

READY = "Ctrl-C stops everything"
"""What scripts/run.sh prints once all is up."""
STOP_TIMEOUT_S = 20
"""As promised in docs/operations.md."""


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
    return os.fsdecode(out)


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
    async with asyncio.timeout(100):
        while text not in seen:
            line = os.fsdecode(await process.stdout.readline())
            # Escaped, as xdist itself fails with a message that isn't UTF-8.
            assert line, (
                f"it ended without {text!r}:\n{os.fsencode(seen).decode(errors='backslashreplace')}"
            )
            seen += line
    return seen


async def children(process: asyncio.subprocess.Process) -> dict[int, str]:
    """The child processes: their ids and command lines."""
    lines = (await output_of("pgrep", "-P", str(process.pid), "-a")).splitlines()
    return {int(pid): command for pid, _, command in (line.partition(" ") for line in lines)}


async def gone(pids: Iterable[int]) -> None:
    """Wait until none of these runs any more."""

    async def left() -> list[int]:
        return [pid for pid in pids if _exists(pid)]

    await eventually(left, [], timeout_s=STOP_TIMEOUT_S)


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] != "Z"


async def stopped(
    process: asyncio.subprocess.Process, number: signal.Signals = signal.SIGINT
) -> None:
    """Stop scripts/run.sh, which must succeed in time, and leave no process behind."""
    running = await children(process)
    process.send_signal(number)
    assert await asyncio.wait_for(process.wait(), STOP_TIMEOUT_S) == 0, number
    await gone(running)


def dapr_ready(run_file: Path) -> str:
    """What `dapr run -f` prints once all is up. Stopped before that, it waits up to 100 s for a
    sidecar that has ended."""
    app_id = yaml.safe_load(run_file.read_text())["apps"][-1]["appID"]
    return f'Started Dapr with app id "{app_id}"'


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


async def ask(port: int, user_id: str = "alice") -> Any:
    body = {"user_id": user_id, "text": "How many messages have I sent?"}
    status, answer = await asyncio.to_thread(http, "POST", f"http://localhost:{port}/chat/", body)
    assert status == 200
    return answer["message_count"]


def url_in(shown: str) -> str:
    """The printed URL of the gateway."""
    return shown.partition("chat page")[2].split()[0].removesuffix("/ui/")


async def typed(shown: str) -> dict[str, object]:
    """Run the commands shown under "Try it". Returns the answer."""
    lines = shown.partition("Try it")[2].partition(READY)[0].splitlines()
    script = "\n".join(line for line in lines if line.startswith("  "))
    answer: dict[str, object] = json.loads(await output_of("bash", "-ec", script))
    return answer
