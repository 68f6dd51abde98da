"""Forwards connections from a port to a Unix socket of another network: forward.py PORT SOCKET."""

import asyncio
import sys


async def _copy(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    while data := await source.read(65536):
        target.write(data)
    target.close()


async def main(port: str, socket: str) -> None:
    """Runs until it is killed."""

    async def pass_on(near: asyncio.StreamReader, back: asyncio.StreamWriter) -> None:
        far, on = await asyncio.open_unix_connection(socket)
        await asyncio.gather(_copy(near, on), _copy(far, back))

    server = await asyncio.start_server(pass_on, "localhost", port)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
