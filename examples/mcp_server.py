"""An MCP server with one tool. Chat starts it and talks to it over stdio.

    CHAT_MCP_SERVERS='{"dice": {"command": ".venv/bin/python", "args": ["examples/mcp_server.py"]}}'

Or start it on a port with `.venv/bin/python examples/mcp_server.py 8010`; chat then calls it there.

    CHAT_MCP_SERVERS='{"dice": {"url": "http://127.0.0.1:8010/mcp"}}'"""

import secrets
import sys

from mcp.server import MCPServer

server = MCPServer("dice", log_level="WARNING")


@server.tool()
def roll(sides: int = 6) -> str:
    """Roll a die with so many sides."""
    return f"{1 + secrets.randbelow(sides)} of {sides}"


if __name__ == "__main__":
    if ports := sys.argv[1:]:
        server.run("streamable-http", port=int(ports[0]))
    else:
        server.run()
