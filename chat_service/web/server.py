"""The HTTP server: granian (hyper, in Rust) on our own event loop, beside gRPC's."""

import asyncio
import os
import resource
import socket
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from granian.constants import HTTPModes, Interfaces
from granian.http import HTTP1Settings
from granian.server.embed import Server
from granian.utils.proxies import wrap_asgi_with_proxy_headers
from starlette.types import ASGIApp

from daca_shared.addresses import PortTaken, address, listen
from daca_shared.domain import Failed

# The server's buffer for a request's head. It refuses heads of several times this size (431).
_MAX_HEAD_BYTES = 64 * 1024
# Further connections wait to be accepted. Half of the open files is left for other things.
_MAX_CONNECTIONS = 4096
# How long the server may take until it is reachable: milliseconds, unless a firewall blocks it.
_START_S = 10.0
# How long requests that are ended may take to send that answer.
_END_S = 1.0


@dataclass(eq=False)
class HttpServer:
    app: ASGIApp
    host: str
    port: int
    """0 takes a free one."""
    trusted_proxies: Sequence[str] = ()
    head_timeout_s: float = 20
    """How long a client may take to send a request's head, before it is cut off."""
    stuck_timeout_s: float = 60
    """How long a client may accept none of the data sent to it, before it is cut off."""
    end_requests: Callable[[], None] = lambda: None
    """Ends the requests that have not finished in the grace period of a stop."""

    async def start(self) -> None:
        """Listen. Raises `PortTaken`, or `Failed` if nothing can connect then."""
        try:
            # Granian reports a taken port late, and doesn't name the setting.
            with listen(self.host, self.port) as listener:
                self.port = listener.getsockname()[1]
        except OSError as error:
            raise PortTaken(self.host, self.port, "CHAT_HTTP_PORT") from error
        trusted = {*self.trusted_proxies, *map(_mapped, self.trusted_proxies)}
        files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        self._server = Server(
            wrap_asgi_with_proxy_headers(self.app, [*trusted]) if trusted else self.app,
            address=self.host,
            port=self.port,
            interface=Interfaces.ASGINL,
            http=HTTPModes.http1,
            http1_settings=HTTP1Settings(
                header_read_timeout=int(self.head_timeout_s * 1000), max_buffer_size=_MAX_HEAD_BYTES
            ),
            websockets=False,
            backlog=2048,
            backpressure=min(_MAX_CONNECTIONS, files // 2),
            # Otherwise it warns at each start that this API is experimental (ADR 0007).
            log_enabled=False,
        )
        self.serving = asyncio.create_task(self._server.serve())
        with suppress(TimeoutError):
            async with asyncio.timeout(_START_S):
                while not self.serving.done():
                    # Granian doesn't say when it is listening.
                    with suppress(OSError):
                        _, writer = await asyncio.open_connection(self.host, self.port)
                        writer.close()
                        return self._end_stuck_connections()
                    await asyncio.sleep(0.002)
                self.serving.result()
        place = address(self.host, self.port)
        raise Failed(f"Nothing can connect to {place}, not even this service")

    def _end_stuck_connections(self) -> None:
        """Set a timeout on the listening socket, from which connections inherit it (only on Linux).
        Granian gives no other access to that socket."""
        sockets = [path for path in Path("/proc/self/fd").glob("*") if path.is_socket()]
        for path in sockets:
            with suppress(OSError), socket.socket(fileno=os.dup(int(path.name))) as found:
                if found.getsockname()[1:2] == (self.port,):
                    timeout_ms = int(self.stuck_timeout_s * 1000)
                    found.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, timeout_ms)

    async def stop(self, grace_s: float) -> None:
        """Refuse new requests, and give current ones `grace_s` to finish."""
        self._server.stop()  # type: ignore[no-untyped-call]
        # Not cancelled, as it would then log an error when its last request ends.
        _, unfinished = await asyncio.wait([self.serving], timeout=grace_s)
        if unfinished:
            self.end_requests()
            await asyncio.wait(unfinished, timeout=_END_S)


def _mapped(network: str) -> str:
    """An IPv4 network as a server that listens on `::` sees it."""
    first, _, length = network.partition("/")
    return network if ":" in first else f"::ffff:{first}/{96 + int(length)}"
