"""Tools that take their time, or want to end it, in the service as it runs."""

import asyncio
import sys
from pathlib import Path

import httpx2

from lab.machine import free_port
from tests.commands import command
from tests.fakes import eventually

AGENT = """
import agents, argparse, pathlib, time
@agents.function_tool
def snooze(n: int) -> str:
    (HERE / f"asleep-{n}").touch()
    while not (HERE / "alarm").exists():
        time.sleep(0.05)
    return "awake"
def extend(agent):
    return agent.clone(tools=[*agent.tools, snooze, convert, find])
@agents.function_tool
def convert(to: str) -> str:
    argparse.ArgumentParser().parse_args(["--to", to])
@agents.function_tool
def find(name: str) -> str:
    return next(one for one in ["Ann", "Bob"] if one == name)
"""
# The most threads that a loop has by itself are 32.
SLEEPERS = 40


async def test_tools_that_block_hold_up_no_other_chat(tmp_path: Path) -> None:
    (tmp_path / "sleepers.py").write_text(f"import pathlib; HERE = pathlib.{tmp_path!r}{AGENT}")
    port = free_port()
    settings = {
        "CHAT_AGENT": "sleepers:extend", "PYTHONPATH": str(tmp_path), "CHAT_METRICS_PORT": "off",
        "CHAT_HTTP_PORT": str(port), "CHAT_GRPC_PORT": "0",
    }  # fmt: skip
    client = httpx2.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=70)

    async def chat(user_id: str, text: str) -> str:
        answer = await client.post("/chat/", json={"user_id": user_id, "text": text})
        return str(answer.json().get("reply"))

    async def is_up() -> bool:
        try:
            return (await client.get("/healthz")).is_success
        except httpx2.ConnectError:
            return False

    async with command(sys.executable, "-m", "chat_service", folder=tmp_path, settings=settings):
        await eventually(is_up, timeout_s=60)
        asleep = [chat(f"user{n}", f'snooze {{"n": {n}}}') for n in range(SLEEPERS)]
        chats = asyncio.gather(*asleep)
        await eventually(lambda: len([*tmp_path.glob("asleep-*")]) == SLEEPERS, timeout_s=20)
        assert "The tool has failed" in await chat("alice", 'convert {"to": "a"}')
        assert "The tool has failed" in await chat("alice", 'find {"name": "Eve"}')
        assert "It is 20" in await chat("alice", "What time is it?")
        (tmp_path / "alarm").touch()
        assert {*await chats} == {"[offline model] snooze says: awake"}
    await client.aclose()
