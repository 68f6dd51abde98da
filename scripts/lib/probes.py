"""Probes of what runs on this machine, never through a proxy."""

import asyncio
import json
import urllib.error
import urllib.request
from http.client import HTTPException
from ipaddress import ip_address
from typing import Any

from daca_shared.addresses import listen

_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))
_TIMEOUT_S = 2.0


def get(url: str) -> tuple[int, Any]:
    """The status and the JSON at `url`; (0, None) if nothing there speaks HTTP."""
    try:
        with _OPENER.open(url, timeout=_TIMEOUT_S) as answer:
            return answer.status, _json(answer.read())
    except urllib.error.HTTPError as error:
        with error:
            return error.code, _json(error.read())
    except (OSError, ValueError, HTTPException):
        return 0, None


def _json(body: bytes) -> Any:
    try:
        return json.loads(body)
    except ValueError:
        return None


async def listens(host: str, port: int) -> bool:
    """Whether anything accepts connections there."""
    try:
        async with asyncio.timeout(_TIMEOUT_S):
            _, writer = await asyncio.open_connection(host, port)
    except OSError:
        return False
    writer.close()
    return True


def is_free(host: str, port: int) -> bool:
    """Whether this port can be listened on."""
    try:
        listen(host, port).close()
    except OSError:
        return False
    return True


def free_port(host: str = "127.0.0.1") -> int:
    """A port that nobody listens on now."""
    with listen(host, 0) as listener:
        return int(listener.getsockname()[1])


def reachable(host: str) -> str:
    """The address for a connection to what listens on `host`, which may be a wildcard."""
    if not ip_address(host).is_unspecified:
        return host
    return "::1" if ":" in host else "127.0.0.1"
