"""Hosts and ports, as people and HTTP headers write them."""

import re
from contextlib import suppress
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address

THIS_MACHINE = ("localhost", "127.0.0.1", "::1")
"""Names of this machine, which need no proxy."""

_host_and_port = re.compile(r"(?:\[([^\[\]]+)\]|([^\[\]:/@\s]+))(?::\d*)?").fullmatch


def address(host: str, port: int) -> str:
    """`host:port`, as URLs and gRPC have it."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


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
            f"stop what listens there, or set {variable} to another"
        )
