"""An MCP server with one tool, for the chat's agent, in any of two ways:

    CHAT_MCP_SERVERS="dice=.venv/bin/python examples/mcp_server.py" scripts/run.sh

starts it and talks to it by stdio, while one that others started, at a port, is asked by HTTP:

    .venv/bin/python examples/mcp_server.py 8010
    CHAT_MCP_SERVERS="dice=http://127.0.0.1:8010/mcp" scripts/run.sh
"""

import secrets
import sys

from mcp.server import MCPServer

server = MCPServer("dice")


@server.tool()
def roll(sides: int = 6) -> int:
    """Roll a die with so many sides."""
    return 1 + secrets.randbelow(sides)


if __name__ == "__main__":
    if ports := sys.argv[1:]:
        server.run("streamable-http", port=int(ports[0]))
    else:
        server.run()
