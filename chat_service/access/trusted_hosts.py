"""Which hosts a request's Host header may name."""

from collections.abc import Sequence
from ipaddress import ip_address

from daca_shared.addresses import THIS_MACHINE, host_in


class TrustedHosts:
    """The hosts that requests may name: this machine's names, the address listened on (any address
    if that is a wildcard), and `others`, where `*` allows all. Otherwise a foreign page could point
    its own name at this machine (DNS rebinding) and count as the same origin."""

    def __init__(self, listens_on: str, *others: str) -> None:
        self._named = {host_in(name) for name in (*THIS_MACHINE, listens_on, *others)}
        self._any_address = ip_address(listens_on).is_unspecified

    def problem(self, named: Sequence[str], *, is_probe: bool, is_old: bool = False) -> str:
        """What is wrong with a request's Host headers, or "". Probes may name any host. HTTP/1.0
        requests (`is_old`) need none: load balancers probe with them, and no browser sends them."""
        if is_old and not any(named):
            return ""
        if len(named) > 1:
            # RFC 9112, 3.2. A proxy might read another one than we do.
            return "The request has more than one Host header"
        host = host_in(named[0]) if named else ""
        if not host:
            return "The request must name a host"
        is_address = not isinstance(host, str)
        if is_probe or {host, "*"} & self._named or (is_address and self._any_address):
            return ""
        return f"This host ({host!s:.100}) is not served; CHAT_TRUSTED_HOSTS names those that are"
