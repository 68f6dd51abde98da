"""uvicorn with a stop of ours, and its fast HTTP/1.1 protocol with the limits that its parser
lacks and with a door: chats beyond what the service can do are turned away here, before they
cost a task."""

import asyncio
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from chat_service.access.overload import CHAT_PATHS, Load, refusal
from daca_shared.calls.ports import PortTaken

_MAX_HEAD_BYTES = 64 * 1024
# Whoever has not sent a request's head by then is broken, or wants to hold us up.
_HEAD_TIMEOUT_S = 20.0
# Stands for the request that was turned away: uvicorn drops the body of one that is answered.
_ANSWERED: Any = SimpleNamespace(response_complete=True, message_event=asyncio.Event())
_REFUSAL = refusal()
# By then a request that was under way when the listener closed has been read.
_LAST_REQUESTS_S = 0.2


def listen(host: str, port: int) -> socket.socket:
    """The gateway's listening socket. Raises `PortTaken`."""
    try:
        return socket.create_server((host, port))
    except OSError as error:
        raise PortTaken(host, port, "CHAT_HTTP_PORT") from error


class Gateway(uvicorn.Server):
    """uvicorn without its signal handling, which would end the process before the gRPC
    server has drained, and with a stop that drops no request."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave the signals to `daca_shared.calls.server.stop_signal`."""
        yield

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Close the listener, answer what is on its way already, then let uvicorn end.

        uvicorn alone would close a connection whose request it has not read yet.
        """
        for server in self.servers:
            server.close()
        self.server_state.default_headers = [(b"connection", b"close")]
        await asyncio.sleep(_LAST_REQUESTS_S)
        await super().shutdown(sockets)


def limited_http(load: Load) -> type["LimitedHttp"]:
    """The protocol with this load's door."""
    return type("LimitedHttp", (LimitedHttp,), {"load": load})


class LimitedHttp(HttpToolsProtocol):
    """Refuses heads that are too long, come too slowly, or name two hosts (RFC 9112, 3.2), and
    chats that are too many."""

    load: Load
    _in_head = True
    _head_bytes = 0
    _head_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        """Give the first head its time."""
        super().connection_made(transport)
        self._head_timer = self.loop.call_later(_HEAD_TIMEOUT_S, transport.close)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the timer."""
        self._end_head()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Pass on what is within the limits."""
        self._head_bytes += len(data)
        if self._in_head and self._head_bytes - len(data) > _MAX_HEAD_BYTES:
            self.send_400_response("The request's head is too long")
        elif not self.transport.is_closing():
            super().data_received(data)

    def on_message_begin(self) -> None:
        """A head begins."""
        super().on_message_begin()
        self._in_head, self._head_bytes = True, 0
        if self._head_timer is None:
            self._head_timer = self.loop.call_later(_HEAD_TIMEOUT_S, self.transport.close)

    def on_headers_complete(self) -> None:
        """A head ends."""
        self._end_head()
        size = sum(len(name) + len(value) for name, value in self.headers) + len(self.url)
        hosts = sum(name == b"host" for name, _ in self.headers)
        if size > _MAX_HEAD_BYTES or hosts > 1:
            raise ValueError  # the parser makes "400 Bad Request" of it
        idle = self.cycle is None or self.cycle.response_complete
        if idle and self.url.startswith(CHAT_PATHS.encode()) and self.load.is_too_much():
            self._turn_away()
        else:
            super().on_headers_complete()

    def _turn_away(self) -> None:
        self.cycle = _ANSWERED
        self.transport.write(_REFUSAL)
        if not self.parser.should_keep_alive():
            self.transport.close()
        self.on_response_complete()

    def _end_head(self) -> None:
        self._in_head = False
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None
