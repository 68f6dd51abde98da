"""The example of a third service, run as described, on the test's own ports."""

import asyncio
import re
from pathlib import Path

import pytest
import yaml

from lab.machine import free_port, tool
from lab.stack import UNSET, eventually, http
from scripts.lib.project import ROOT
from tests.commands import READY, command, dapr_ready, read_until

EXAMPLE = ROOT / "examples/third_service"
PORTS = re.compile(r"(?<=Port: )\d+|(?<=PORT: \")\d+|(?<=127.0.0.1:)\d+")


def rendered(folder: Path) -> Path:
    """Write the example with the test's own ports. Returns its folder."""
    ports: dict[str, str] = {}
    for source in EXAMPLE.rglob("*.yaml"):
        text = PORTS.sub(lambda m: ports.setdefault(m[0], str(free_port())), source.read_text())
        target = folder / source.relative_to(EXAMPLE)
        target.parent.mkdir(exist_ok=True)
        target.write_text(text.replace("../..", str(ROOT)))
    return folder / "dapr.yaml"


@pytest.mark.parametrize("program", ["scripts/run.sh --run-file", "dapr run -f"])
async def test_a_third_service_asks_analytics_through_its_sidecar(
    tmp_path: Path, program: str
) -> None:
    run_file, runtime = rendered(tmp_path), tmp_path / "home/.dapr/bin/daprd"
    runtime.parent.mkdir(parents=True)
    runtime.symlink_to(tool("DAPRD"))
    chat = yaml.safe_load(run_file.read_text())["apps"][1]
    badges = f"http://127.0.0.1:{chat['daprHTTPPort']}/v1.0/invoke/badges/method"

    async def badge_of(user: str) -> object:
        try:
            status, body = await asyncio.to_thread(http, "GET", f"{badges}/badges/{user}")
        except OSError:  # nobody listens there yet
            return None
        return body["badge"] if status == 200 else status

    start = [str(tool("DAPR_CLI")) if part == "dapr" else part for part in program.split()]
    home = {"HOME": str(runtime.parents[2]), "DAPR_HOST_IP": "127.0.0.1"}
    environment = UNSET | (home if "dapr" in program else {})
    ready = dapr_ready(run_file) if "dapr" in program else READY
    async with command(*start, run_file, folder=tmp_path, settings=environment) as process:
        await read_until(process, ready)
        await eventually(lambda: badge_of("alice"), "silver", timeout_s=60)
        assert [await badge_of(user) for user in ("bob", "n%C3%A9w")] == ["bronze", "bronze"]
        assert (await asyncio.to_thread(http, "GET", f"{badges}/nothing"))[0] == 404
