"""Two hosts for the two services: network namespaces with a link between them."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

from lab.stack import RunningStack

# Debian has iptables there, which is not on everybody's path.
_PATH = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
_LOSS = ("-i", "eth0", "-m", "statistic", "--mode", "random", "--probability", "0.3", "-j", "DROP")


def _run(*command: str) -> None:
    subprocess.run(command, check=True, env={**os.environ, "PATH": _PATH})


class Network:
    """One host per service. Chat's clients are on its host, so that faults of the link between the
    services don't affect them."""

    def __init__(self) -> None:
        name = uuid4().hex[:6]
        self.hosts = {f"chat-{name}": "10.201.7.1", f"analytics-{name}": "10.201.7.2"}

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
def on_host(name: str) -> Iterator[None]:
    """Be on that host: this thread, and those that it starts. A link to it would do, too, but when
    this machine gets or loses one, Chromium drops its connections in other tests."""
    ours, its = Path("/proc/thread-self/ns/net"), Path("/run/netns", name)
    with ours.open() as here, its.open() as there:
        os.setns(there.fileno(), os.CLONE_NEWNET)
        try:
            yield
        finally:
            os.setns(here.fileno(), os.CLONE_NEWNET)


@contextmanager
def two_hosts() -> Iterator[Network]:
    """Needs root."""
    network = Network()
    try:
        network.create()
        yield network
    finally:
        network.destroy()
