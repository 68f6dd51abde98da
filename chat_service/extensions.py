"""Extensions of the agent that settings name: CHAT_AGENT and CHAT_MCP_SERVERS."""

import asyncio
import json
import logging
import pkgutil
import sys
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from functools import partial
from typing import Any

import agents
import httpx2
from agents.mcp import MCPServer, MCPServerSse, MCPServerStdio, MCPServerStreamableHttp
from pydantic import SecretStr

from chat_service.agent.agent import OurAgent
from daca_shared.domain import Misconfigured
from daca_shared.service import running

log = logging.getLogger(__name__)

_START_TIMEOUT_S, _CALL_TIMEOUT_S = 15, 30


class _HttpServer(MCPServerSse):
    """An MCP server over streamable HTTP. The SDK's own class for that runs one call at a time, so
    that everybody would wait for one user's slow tool. Its class for SSE doesn't."""

    def create_streams(self) -> AbstractAsyncContextManager[Any]:
        # The SDK inspects the request of each response. A redirected one must be read before.
        hooks: Any = {"request": [httpx2.Request.aread], "response": [self._note_refusal]}
        client = partial(httpx2.AsyncClient, event_hooks=hooks)
        params: Any = {**self.params, "httpx_client_factory": client}
        return MCPServerStreamableHttp(params).create_streams()

    async def _note_refusal(self, answer: httpx2.Response) -> None:
        status = answer.status_code
        if status in (401, 403):  # the SDK's error has no status
            log.warning("MCP server %s answers %d: are its headers right?", self.name, status)


type _Server = MCPServerStdio | _HttpServer


def extended(agent: OurAgent, function: str) -> OurAgent:
    """What `function`, written `module:name`, returns for the agent. Raises `Misconfigured`."""
    sys.path.append("")  # the working folder, but behind all libraries
    try:
        returned = pkgutil.resolve_name(function)(agent)
    except (Exception, SystemExit) as error:
        log.exception("CHAT_AGENT")
        problem = f"CHAT_AGENT: {function} can't be used ({type(error).__name__}: {error})"
        raise Misconfigured(problem) from None
    if not isinstance(returned, agents.Agent):
        raise Misconfigured(f"CHAT_AGENT: {function} must return an agents.Agent")
    # Otherwise the SDK would refuse the tool, but only in the first chat.
    if plain := [tool for tool in returned.tools if not hasattr(tool, "name")]:
        problem = f"CHAT_AGENT: {function} must make its tools by @function_tool, not {plain[0]}"
        raise Misconfigured(problem)
    return returned


@asynccontextmanager
async def connected(
    setting: SecretStr | None, retry_s: float = 15
) -> AsyncIterator[list[MCPServer]]:
    """A live list of the MCP servers that are up, after a first try. Raises `Misconfigured`."""
    try:
        options = json.loads(setting.get_secret_value()) if setting else {}
        servers = [_server(name, params) for name, params in options.items()]
    except (AttributeError, LookupError, TypeError, ValueError):
        form = '{"dice": {"url": "http://localhost:8010/mcp"}, "notes": {"command": "uvx"}}'
        raise Misconfigured(f"CHAT_MCP_SERVERS: must be JSON like {form}") from None
    up: list[MCPServer] = []
    tried = asyncio.Semaphore(0)

    async def keep_all() -> None:
        async with asyncio.TaskGroup() as group:  # ends all together: each may take seconds
            for server in servers:
                group.create_task(_keep(server, up, tried, retry_s))

    async with running(keep_all):
        with suppress(TimeoutError):
            async with asyncio.timeout(_START_TIMEOUT_S):
                for _ in servers:
                    await tried.acquire()
        yield up


def _server(name: str, params: Any) -> _Server:
    make = _HttpServer if "url" in params else MCPServerStdio
    if "url" in params and not params["url"].startswith(("http://", "https://")):
        raise ValueError(name)  # otherwise each try would fail without saying why
    # With its tools cached, a server that has just gone away fails only the chats that call one.
    return make(
        params, cache_tools_list=True, name=name, client_session_timeout_seconds=_CALL_TIMEOUT_S
    )


async def _keep(
    server: _Server, up: list[MCPServer], tried: asyncio.Semaphore, retry_s: float
) -> None:
    while True:
        try:
            async with server:
                known = None
                while server.session:
                    tools = (await server.session.list_tools()).tools
                    if tools != known:
                        known = tools
                        # The server has just answered, so no chat has to wait for the new list.
                        server.invalidate_tools_cache()  # type: ignore[no-untyped-call]  # no types
                        names = ", ".join(tool.name for tool in await server.list_tools())
                        log.info("MCP server %s is up; its tools: %s", server.name, names)
                    if server not in up:
                        up.append(server)
                        tried.release()
                    await asyncio.sleep(retry_s)
        except Exception as error:
            cause = error
            while isinstance(cause, ExceptionGroup):  # its own text says nothing
                cause = cause.exceptions[0]
            log.warning("MCP server %s is away (%s: %s)", server.name, type(cause).__name__, cause)
        finally:
            up[:] = [other for other in up if other is not server]
            tried.release()
        await asyncio.sleep(retry_s)
