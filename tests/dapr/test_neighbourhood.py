"""The stack never finds the apps of another machine. That it finds its own without a network is
tested by tests/docs, where the documents' sessions have none."""

import json
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from lab.stack import render_run_file
from scripts.lib.project import ROOT
from scripts.names import write_names
from scripts.stack import Stack
from tests.commands import READY, command, output_of, ports_of, read_until
from tests.faults.network import Network, two_hosts

pytestmark = pytest.mark.asyncio(loop_scope="session")
needs_root = pytest.mark.skipif(
    os.geteuid() != 0, reason="only root can make namespaces: other machines are NOT tested"
)


@pytest.fixture
def network() -> Iterator[Network]:
    with two_hosts() as made:
        yield made


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
