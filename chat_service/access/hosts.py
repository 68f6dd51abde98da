"""What the gateway lets itself be called."""

from collections.abc import Sequence
from ipaddress import ip_address

from daca_shared.addresses import THIS_MACHINE, host_in


class Hosts:
    """Names of this machine, the address that the gateway listens on (if that stands for all, any
    address), and `others`, of which `*` is any. A foreign page can have its own name, but no
    address, point to this machine (DNS rebinding), and would then be of the same origin."""

    def __init__(self, listens_on: str, *others: str) -> None:
        self._named = {host_in(name) for name in (*THIS_MACHINE, listens_on, *others)}
        self._any_address = ip_address(listens_on).is_unspecified
        self._any = "*" in others

    def problem(self, named: Sequence[str], *, is_probe: bool) -> str:
        """What is wrong with a request's Host headers, if anything is. Probes may name any host."""
        if len(named) > 1:
            # RFC 9112, 3.2: servers that read different ones would disagree.
            return "The request has more than one Host header"
        host = host_in(named[0]) if named else ""
        if not host:
            return "The request must name a host"
        is_address = not isinstance(host, str)
        if is_probe or self._any or host in self._named or (is_address and self._any_address):
            return ""
        return "This host is not served; CHAT_TRUSTED_HOSTS names those that are"
