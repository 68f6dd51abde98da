"""MCP servers: their tools, also if a server is away, slow or new."""

import asyncio
import json
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from pydantic import SecretStr

from chat_service.agent.agent import ChatAgent
from chat_service.extensions import connected
from daca_shared.domain import Misconfigured
from lab.machine import free_port
from scripts.lib.project import ROOT
from tests.commands import command
from tests.fakes import eventually
from tests.real_services import offline
from tests.unit.test_extensions import ask

SERVER = [sys.executable, str(ROOT / "examples/mcp_server.py")]


@asynccontextmanager
async def mcp_agent(**servers: object) -> AsyncIterator[ChatAgent]:
    async with connected(SecretStr(json.dumps(servers)), retry_s=0.1) as up:
        yield ChatAgent(offline(), mcp_servers=up)


@asynccontextmanager
async def served(source: str, folder: Path) -> AsyncIterator[dict[str, object]]:
    """An MCP server over HTTP: `source` is run with the port as its argument."""
    port = free_port()
    async with command(sys.executable, "-c", source, str(port), folder=folder):
        yield {"url": f"http://127.0.0.1:{port}/mcp"}


async def test_two_mcp_servers_that_chat_starts_may_have_tools_of_the_same_name() -> None:
    dice = {"command": SERVER[0], "args": SERVER[1:]}
    async with mcp_agent(one=dice, two=dice) as agent:
        for name in ("one", "two"):
            reply = await ask(agent, f'mcp_{name}__roll {{"sides": 1}}')
            assert reply == f"[offline model] mcp_{name}__roll says: 1 of 1"


async def test_an_mcp_server_may_come_go_and_come_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    port = free_port()
    async with mcp_agent(dice={"url": f"http://127.0.0.1:{port}/mcp"}) as agent:

        async def can_roll() -> bool:
            return "says: 1 of 1" in await ask(agent, 'mcp_dice__roll {"sides": 1}')

        async def cannot_roll() -> bool:
            return not await can_roll()

        assert await cannot_roll()
        assert "MCP server dice is away" in caplog.text
        for _ in range(2):
            async with command(*SERVER, str(port), folder=tmp_path):
                await eventually(can_roll, timeout_s=60)
            await eventually(cannot_roll, timeout_s=60)


PICKY = """
from mcp import MCPError
from mcp.server import MCPServer
server = MCPServer("picky", log_level="WARNING")
@server.tool()
def short(sides: int) -> None: ...
@server.tool()
def wrong() -> None:
    raise MCPError(-32602, "sides: must be a number")
@server.tool()
def broken() -> None:
    raise MCPError(-32603, "password=hunter2")
server.run()
"""


async def test_the_model_is_told_how_it_has_called_a_tool_of_an_mcp_server_wrongly(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with mcp_agent(x={"command": sys.executable, "args": ["-c", PICKY]}) as agent:
        for tool, told in (
            ("short", "missing required parameters: sides"),
            ("wrong", "sides: must be a number"),
            ("broken", "says: The tool has failed."),
        ):
            assert (await ask(agent, f"mcp_x__{tool}")).endswith(told)
    failures = [line.getMessage() for line in caplog.records if line.levelname == "WARNING"]
    assert failures == ["the tool mcp_x__broken has failed"]


GROWING = """
from mcp.server import MCPServer
server = MCPServer("growing", log_level="WARNING")
def two() -> str:
    return "grown"
@server.tool()
def one() -> None:
    server.add_tool(two)
server.run()
"""


async def test_a_tool_that_an_mcp_server_adds_later_is_known() -> None:
    async with mcp_agent(x={"command": sys.executable, "args": ["-c", GROWING]}) as agent:
        await ask(agent, "mcp_x__one")

        async def has_grown() -> bool:
            return "says: grown" in await ask(agent, "mcp_x__two")

        await eventually(has_grown, timeout_s=60)


# `meet` returns once it is called by two at once. The tool `lost` gets no answer but status 500.
MEETING = """
import asyncio, sys
import uvicorn
from mcp.server import MCPServer
server = MCPServer("meeting", log_level="WARNING")
barrier = asyncio.Barrier(2)
@server.tool()
async def meet() -> str:
    await barrier.wait()
    return "met"
@server.tool()
def lost() -> None: ...
async def app(scope, receive, send):
    message = await receive()
    if b'"name":"lost"' in message.get("body", b""):
        await send({"type": "http.response.start", "status": 500})
        return await send({"type": "http.response.body"})
    rest = iter([message])
    async def again():
        return next(rest, None) or await receive()
    await inner(scope, again, send)
inner = server.streamable_http_app()
uvicorn.run(app, port=int(sys.argv[1]), log_level="warning")
"""


async def test_calls_of_an_mcp_servers_tools_neither_wait_for_one_another_nor_fail_together(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with served(MEETING, tmp_path) as meeting, mcp_agent(x=meeting) as agent:

        async def is_up() -> bool:
            return "mcp_x__lost says: The tool has failed." in await ask(agent, "mcp_x__lost")

        await eventually(is_up, timeout_s=60)
        one = asyncio.create_task(ask(agent, "mcp_x__meet"))
        assert await is_up()
        both = await asyncio.wait_for(asyncio.gather(one, ask(agent, "mcp_x__meet")), 20)
    assert set(both) == {"[offline model] mcp_x__meet says: met"}
    assert "the tool mcp_x__lost has failed" in caplog.text


# At `/mcp/`, as an app that is mounted there, and only for those who know the key.
MOUNTED = """
import sys
import uvicorn
from mcp.server import MCPServer
server = MCPServer("mounted", log_level="WARNING")
@server.tool()
def roll() -> str:
    return "rolled"
inner = server.streamable_http_app(streamable_http_path="/mcp/")
async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        return await inner(scope, receive, send)
    knows, is_there = (b"x-key", b"open") in scope["headers"], scope["path"] == "/mcp/"
    if knows and is_there:
        return await inner(scope, receive, send)
    headers = [(b"location", b"/mcp/")]
    await send({"type": "http.response.start", "status": 307 if knows else 401, "headers": headers})
    await send({"type": "http.response.body"})
uvicorn.run(app, port=int(sys.argv[1]), log_level="warning")
"""


async def test_an_mcp_server_that_redirects_to_its_own_other_path_and_wants_a_key(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with (
        served(MOUNTED, tmp_path) as at,
        mcp_agent(a=at | {"headers": {"X-Key": "open"}}, b=at) as agent,
    ):

        async def is_up() -> bool:
            return "says: rolled" in await ask(agent, "mcp_a__roll")

        async def is_refused() -> bool:
            return "MCP server b answers 401" in caplog.text

        await eventually(is_up, timeout_s=60)
        await eventually(is_refused, timeout_s=60)


# A server that runs on after its input has ended, as one in Node with a timer does, until SIGTERM.
LINGERING = [
    "-c",
    f"import runpy, time; runpy.run_path({SERVER[1]!r}, run_name='__main__'); time.sleep(99)",
]


async def test_mcp_servers_that_end_slowly_end_together() -> None:
    slow = {"command": sys.executable, "args": LINGERING}
    async with mcp_agent(a=slow, b=slow, c=slow) as agent:
        assert "mcp_c__roll says" in await ask(agent, "mcp_c__roll")
        began = time.monotonic()
    # Each has two seconds to end by itself before it is sent a signal.
    assert time.monotonic() - began < 5


async def test_mcp_servers_that_cannot_be_started_stop_no_chat(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with mcp_agent(no={"command": "/no/such"}, ends={"command": "true"}) as agent:
        assert "5 messages" in await ask(agent, "hi")
    for name in ("no", "ends"):
        assert f"MCP server {name} is away" in caplog.text
    assert "is away (ExceptionGroup" not in caplog.text


@pytest.mark.parametrize("value", [
    "dice", "[]", "[1]", '{"a": 1}', '{"a": {}}', '{"a": {"b": 1}}', '{"a": {"url": 1}}',
    '{"a": {"url": "localhost:8010/mcp"}}',
])  # fmt: skip
async def test_invalid_mcp_servers_are_refused_by_name(value: str) -> None:
    with pytest.raises(Misconfigured, match="CHAT_MCP_SERVERS: must be JSON like"):
        async with connected(SecretStr(value)):
            pass
