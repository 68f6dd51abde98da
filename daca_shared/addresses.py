"""Hosts, ports and URLs, as people and HTTP headers write them."""

import re
import socket
from collections.abc import Iterator
from contextlib import suppress
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address
from urllib.parse import unquote, urlsplit

THIS_MACHINE = ("localhost", "127.0.0.1", "::1")
"""Names of this machine, which need no proxy."""

_host_and_port = re.compile(r"(?:\[([^\[\]]+)\]|([^\[\]:/@\s]+))(?::\d*)?").fullmatch
_is_secret = re.compile("pass|secret|token|key|sig", re.IGNORECASE).search


def address(host: str, port: int) -> str:
    """`host:port`, as URLs and gRPC write it."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens there; port 0 takes a free one. Raises `OSError`."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return socket.create_server((host, port), family=family)


def own_address(host: str) -> str:
    """The address of this machine that is meant, bare. Raises `ValueError` if it is none."""
    bare = "127.0.0.1" if host == "localhost" else host.strip("[]")
    family = socket.AF_INET6 if ":" in bare else socket.AF_INET
    try:
        socket.inet_pton(family, bare)  # `bind` would also accept names, and look them up
        listen(bare, 0).close()
    except OSError:
        raise ValueError("must be an address of this machine, e.g. 127.0.0.1") from None
    return bare


@lru_cache(256)
def host_in(written: str) -> IPv4Address | IPv6Address | str:
    """The address, or the name in lower case, in `host`, `host:port` or `[host]:port`; or ""."""
    found = _host_and_port(written)
    host = (found[1] or found[2]).removesuffix(".") if found else written
    with suppress(ValueError):
        address = ip_address(host)
        return getattr(address, "ipv4_mapped", None) or address
    return host.lower() if found else ""


class PortTaken(Exception):
    """Another process listens on the port."""

    def __init__(self, host: str, port: int, variable: str) -> None:
        super().__init__(
            f"Port {port} on {host} is taken (or may not be used); "
            f"stop what listens there (`ss -ltnp` shows it), or set {variable} to another"
        )


def passwords_in(url: str) -> Iterator[str]:
    """The passwords in a URL, as they are written and percent-decoded."""
    with suppress(ValueError):
        parts = urlsplit(url)
        if parts.scheme:
            query = [pair.partition("=") for pair in parts.query.split("&")]
            named = [value for name, _, value in query if _is_secret(name)]
            for password in (parts.password or "", *named):
                yield from (password, unquote(password))
