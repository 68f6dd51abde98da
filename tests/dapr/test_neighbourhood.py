"""The stack finds its own apps without a network, and never those of another machine."""

import json
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
import yaml

from lab.machine import free_port, tool
from lab.stack import eventually, render_run_file
from scripts.lib.project import ROOT
from scripts.names import write_names
from scripts.stack import Stack
from tests.commands import READY, command, dapr_ready, output_of, ports_of, read_until
from tests.dapr.secure_stack import render_configurations
from tests.faults.network import Network, two_hosts

pytestmark = pytest.mark.asyncio(loop_scope="session")
needs_root = pytest.mark.skipif(
    os.geteuid() != 0, reason="only root can make namespaces: other machines are NOT tested"
)


@pytest.fixture
def network() -> Iterator[Network]:
    with two_hosts() as made:
        yield made


@pytest_asyncio.fixture(loop_scope="session")
async def alone(network: Network) -> str:
    """A machine that has only a loopback interface."""
    host, _ = network.hosts
    await output_of("ip", "-n", host, "link", "delete", "eth0")
    return host


async def on(host: str, *arguments: str | Path) -> str:
    return await output_of("ip", "netns", "exec", host, *arguments)


async def count_after_a_chat(host: str, port: int) -> Any:
    """The number of alice's earlier messages, according to chat on that host."""
    body = json.dumps({"user_id": "alice", "text": "How many?"})
    said = await on(host, "curl", "-sX", "POST", f"http://127.0.0.1:{port}/chat/", "-d", body)
    return json.loads(said)["message_count"]


async def listeners_beyond_loopback(host: str) -> list[str]:
    """The addresses there at which other machines could reach a TCP or UDP socket."""
    lines = (await on(host, "ss", "-Hlntu")).splitlines()
    addresses = [line.split()[4].removeprefix("[::ffff:") for line in lines]
    return [address for address in addresses if not address.startswith(("127.", "[::1]"))]


@asynccontextmanager
async def run_sh(host: str, folder: Path, *arguments: str | Path) -> AsyncIterator[None]:
    start = ("ip", "netns", "exec", host, "scripts/run.sh", *arguments)
    async with command(*start, folder=folder) as process:
        await read_until(process, READY)
        yield


@needs_root
async def test_two_machines_on_one_network_do_not_discover_each_other(
    network: Network, tmp_path: Path
) -> None:
    run_file = render_run_file(tmp_path)
    port = ports_of(run_file)["http"]
    first, second = network.hosts
    folders = tmp_path / "first", tmp_path / "second"
    async with (
        run_sh(first, folders[0], "--run-file", run_file),
        run_sh(second, folders[1], "--run-file", run_file),
    ):
        counts = [await count_after_a_chat(first, port) for _ in range(20)]
        assert counts == list(range(5, 25))
        assert await count_after_a_chat(second, port) == 5
        for host in network.hosts:
            assert await listeners_beyond_loopback(host) == []


@needs_root
async def test_run_sh_needs_no_network(alone: str, tmp_path: Path) -> None:
    run_file = render_run_file(tmp_path)
    async with run_sh(alone, tmp_path, "--run-file", run_file):
        assert await count_after_a_chat(alone, ports_of(run_file)["http"]) == 5


@needs_root
async def test_run_sh_secure_needs_no_network(
    alone: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_file = render_run_file(tmp_path)
    apps = (app["appID"] for app in yaml.safe_load(run_file.read_text())["apps"])
    configurations = render_configurations(tmp_path / "secure", *apps)
    health = free_port()
    monkeypatch.setenv("SENTRY_HEALTH_PORT", str(health))
    async with run_sh(alone, tmp_path, "--run-file", run_file, "--secure", configurations):
        assert await count_after_a_chat(alone, ports_of(run_file)["http"]) == 5
        # sentry 1.18 can't bind its health port to an address.
        assert await listeners_beyond_loopback(alone) == [f"*:{health}"]


@needs_root
async def test_dapr_run_needs_no_network(
    alone: str, tmp_path: Path, daprd: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_file = render_run_file(tmp_path)
    runtime = tmp_path / "home/.dapr/bin/daprd"
    runtime.parent.mkdir(parents=True)
    runtime.symlink_to(daprd)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    # The address that daprd announces. Without a network it can't find one by itself.
    monkeypatch.setenv("DAPR_HOST_IP", "127.0.0.1")
    port = ports_of(run_file)["http"]

    async def a_chat_has_a_count() -> bool:
        try:
            return await count_after_a_chat(alone, port) is not None
        except AssertionError:  # nobody listens there yet
            return False

    start = ("ip", "netns", "exec", alone, tool("DAPR_CLI"), "run", "-f", run_file)
    async with command(*start, folder=tmp_path) as process:
        await read_until(process, dapr_ready(run_file))
        await eventually(a_chat_has_a_count, expected=True, timeout_s=60)


async def test_the_local_configuration_has_the_addresses_of_dapr_yaml() -> None:
    apps = yaml.safe_load((ROOT / "dapr.yaml").read_text())["apps"]
    text = (ROOT / "deploy/local/config.yaml").read_text()
    template = yaml.safe_load(text)["spec"]["nameResolution"]["configuration"]["template"]
    for app in apps:
        place = f'eq .ID "{app["appID"]}" }}}}127.0.0.1:{app["daprInternalGRPCPort"]}\n'
        assert place in template
    assert template.count("127.0.0.1") == len(apps)


async def test_an_app_without_an_internal_port_gets_one(tmp_path: Path) -> None:
    """As with a run file from before there were internal ports."""
    config = yaml.safe_load((ROOT / "dapr.yaml").read_text())
    for app in config["apps"]:
        del app["daprInternalGRPCPort"]
    run_file = tmp_path / "dapr.yaml"
    run_file.write_text(yaml.safe_dump(config))
    stack = Stack(run_file, daprd=Path("daprd"), log_dir=tmp_path)
    write_names(stack, tmp_path / "names.yaml")
    template = yaml.safe_load((tmp_path / "names.yaml").read_text())
    for service in stack.services.values():
        if service.is_sidecar:
            port = service.option("--dapr-internal-grpc-port")
            assert f"127.0.0.1:{port}{{{{end}}}}" in str(template)
