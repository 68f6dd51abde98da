"""Two hosts for the two services: network namespaces with a link between them."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from uuid import uuid4

from lab.stack import RunningStack

# Debian has iptables there, which is not on everybody's path.
_PATH = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
# Chat's address for its clients.
_CHAT = "10.201.8.2"
_LOSS = ("-i", "eth0", "-m", "statistic", "--mode", "random", "--probability", "0.3", "-j", "DROP")


def _run(*command: str) -> None:
    subprocess.run(command, check=True, env={**os.environ, "PATH": _PATH})


class Network:
    """One host per service, and a separate link between chat and its clients, which faults of the
    link between the services don't affect."""

    def __init__(self) -> None:
        name = uuid4().hex[:6]
        self.hosts = {f"chat-{name}": "10.201.7.1", f"analytics-{name}": "10.201.7.2"}
        self._clients = f"clients-{name}"

    def create(self) -> None:
        first, second = self.hosts
        for host in self.hosts:
            _run("ip", "netns", "add", host)
        _run(*f"ip -n {first} link add eth0 type veth peer name eth0 netns {second}".split())
        for host, address in self.hosts.items():
            _run(*f"ip -n {host} address add {address}/24 dev eth0".split())
            _run("ip", "-n", host, "link", "set", "lo", "up")
        self.up()

    def destroy(self) -> None:
        for host in self.hosts:
            subprocess.run(["ip", "netns", "delete", host], check=False, capture_output=True)

    def up(self) -> None:
        for host in self.hosts:
            _run("ip", "-n", host, "link", "set", "eth0", "up")
            # For multicast, as on any network. A route may vanish when its link goes down.
            _run("ip", "-n", host, "route", "replace", "224.0.0.0/4", "dev", "eth0")

    def down(self) -> None:
        _run("ip", "-n", next(iter(self.hosts)), "link", "set", "eth0", "down")

    @contextmanager
    def loss(self) -> Iterator[None]:
        """Drop three of ten packets each way during the context."""
        for host in self.hosts:
            _run("ip", "netns", "exec", host, "iptables", "-A", "INPUT", *_LOSS)
        try:
            yield
        finally:
            for host in self.hosts:
                _run("ip", "netns", "exec", host, "iptables", "-D", "INPUT", *_LOSS)

    def move(self, system: RunningStack) -> None:
        """Make each service and its sidecar start on its host."""
        first, _ = self.hosts
        _run(*f"ip link add {self._clients} type veth peer name eth1 netns {first}".split())
        _run(*f"ip address add 10.201.8.1/24 dev {self._clients}".split())
        _run(*f"ip link set {self._clients} up".split())
        _run(*f"ip -n {first} address add {_CHAT}/24 dev eth1".split())
        _run(*f"ip -n {first} link set eth1 up".split())
        chat = system.stack.services[system.chat]
        chat.environment["DACA_HOST"] = "0.0.0.0"  # noqa: S104 - of its own namespace
        system.url = f"http://{_CHAT}:{chat.ports['HTTP']}"
        for app, (host, address) in zip(
            (system.chat, system.analytics), self.hosts.items(), strict=True
        ):
            sidecar = system.stack.services[f"{app}-sidecar"]
            at = sidecar.command.index("--dapr-internal-grpc-listen-address") + 1
            sidecar.command[at] = address
            sidecar.environment["DAPR_HOST_IP"] = address
            for service in (system.stack.services[app], sidecar):
                service.command = ["ip", "netns", "exec", host, *service.command]


@contextmanager
def two_hosts() -> Iterator[Network]:
    """Needs root."""
    network = Network()
    try:
        network.create()
        yield network
    finally:
        network.destroy()
