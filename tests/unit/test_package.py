"""The content of a release, and its command."""

import asyncio
import os
import re
import signal
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import yaml

from daca_shared.addresses import listen
from lab.machine import free_port
from lab.stack import UNSET
from scripts.lib.probes import is_free
from scripts.lib.project import ROOT
from tests.commands import ask, command, read_until

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
PORTS = ("CHAT_HTTP_PORT", "CHAT_GRPC_PORT")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel built like a release, from the source distribution."""
    folder = tmp_path_factory.mktemp("dist")
    build = f". scripts/lib/env.sh; $(find_uv) build -q -p {sys.executable} -o {folder}"
    subprocess.run(["bash", "-ec", build], cwd=ROOT, check=True)
    (found,) = folder.glob("*.whl")
    return found


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What is in the wheel, in one folder, so that Python compiles it once."""
    folder = tmp_path_factory.mktemp("installed")
    zipfile.ZipFile(wheel).extractall(folder)
    return folder


@asynccontextmanager
async def both(
    installed: Path, folder: Path
) -> AsyncIterator[tuple[asyncio.subprocess.Process, int]]:
    """Run the wheel's `daca-chat`. Yields the process and its HTTP port."""
    # It runs in the project's folder, but must import nothing from there.
    paths = {"PYTHONPATH": str(installed), "PYTHONSAFEPATH": "1"}
    ports = {name: free_port() for name in PORTS}
    settings = UNSET | paths | {name: str(port) for name, port in ports.items()}
    settings |= {"CHAT_METRICS_PORT": "off", "ANALYTICS_METRICS_PORT": "off"}
    settings["ANALYTICS_GRPC_PORT"] = "0"  # chat must find it nevertheless
    settings |= {"APP_API_TOKEN": "which chat shows"}
    program = (sys.executable, "-m", "daca_chat")
    async with command(*program, folder=folder, settings=settings) as process:
        await read_until(process, "serving HTTP")
        yield process, ports["CHAT_HTTP_PORT"]


def test_a_wheel_has_all_of_the_services_and_no_general_names(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    info = f"daca_chat-{PROJECT['version']}.dist-info"
    assert {name.split("/")[0] for name in names} == {
        *("analytics_service", "chat_service", "daca", "daca_chat", "daca_shared", info)
    }
    ours = [*ROOT.glob("analytics_service/**/*.*"), *ROOT.glob("chat_service/**/*.*")]
    needed = [path for path in ours if "__pycache__" not in path.parts]
    assert {str(path.relative_to(ROOT)) for path in needed} <= names
    assert "daca/chat/v1/chat_pb2_grpc.py" in names


def test_links_on_its_page_at_pypi_lead_to_files_of_the_same_version(wheel: Path) -> None:
    info = f"daca_chat-{PROJECT['version']}.dist-info"
    page = zipfile.ZipFile(wheel).read(f"{info}/METADATA").decode()
    at = f"daca-chat/daca-chat/(?:blob/)?v{PROJECT['version']}/"
    ours = rf"https://(?:github|raw\.githubusercontent)\.com/{at}(.*)"
    links = [link for link in re.findall(r"\]\(([^)]*)\)", page) if not link.startswith("#")]
    paths = [found[1] for link in links if (found := re.fullmatch(ours, link))]
    assert len(paths) > 20
    assert all((ROOT / path).is_file() for path in paths)
    assert all(link.startswith("https://") for link in links)


async def test_one_command_runs_both_services_until_it_is_stopped(
    installed: Path, tmp_path: Path
) -> None:
    # Ctrl-C, and a terminal that is closed.
    for count, number in enumerate((signal.SIGINT, signal.SIGHUP)):
        async with both(installed, tmp_path) as (process, port):
            assert await ask(port) == count
            process.send_signal(number)
            # What was answered is counted before it exits.
            assert await asyncio.wait_for(process.wait(), 60) == 0
            assert is_free("127.0.0.1", port)


def test_the_command_starts_nothing_when_it_is_asked_for_what_it_cannot_do() -> None:
    start = [sys.executable, "-m", "daca_chat", "--port", "8080"]
    told = subprocess.run(start, capture_output=True, text=True, check=False, cwd=ROOT, timeout=60)
    assert (told.returncode, "usage: daca-chat" in told.stderr) == (2, True)


def test_a_service_that_could_not_begin_tells_why_and_its_exit_code_is_the_commands(
    tmp_path: Path,
) -> None:
    """Files in the working folder are not imported in place of a library."""
    (tmp_path / "grpc_health").mkdir()
    (tmp_path / "grpc_health/__init__.py").touch()
    with listen("127.0.0.1", 0) as taken:
        settings = {"PYTHONPATH": str(ROOT), "DACA_DATA_DIR": str(tmp_path), **UNSET}
        settings["ANALYTICS_GRPC_PORT"] = str(taken.getsockname()[1])
        settings |= {"CHAT_METRICS_PORT": "off", "ANALYTICS_METRICS_PORT": "off"}
        start = [sys.executable, "-m", "daca_chat"]
        ended = subprocess.run(
            start, env=os.environ | settings, cwd=tmp_path, check=False, timeout=60,
            capture_output=True, text=True,
        )  # fmt: skip
    assert (ended.returncode, "ANALYTICS_GRPC_PORT" in ended.stderr) == (1, True)


@pytest.mark.parametrize("service", ["chat", "analytics"])
async def test_one_service_that_ends_by_itself_ends_the_other(
    installed: Path, tmp_path: Path, service: str
) -> None:
    async with both(installed, tmp_path) as (process, _):
        os.kill(int((tmp_path / f"data/{service}.lock").read_text()), signal.SIGKILL)
        assert await asyncio.wait_for(process.wait(), 60) == signal.SIGKILL


async def test_a_second_signal_ends_what_hangs(installed: Path, tmp_path: Path) -> None:
    async with both(installed, tmp_path) as (process, _):
        pids = [int((tmp_path / f"data/{name}.lock").read_text()) for name in ("chat", "analytics")]
        os.kill(pids[0], signal.SIGSTOP)
        for _ in range(2):  # at once: that is one, as a terminal that is closed may send it
            process.send_signal(signal.SIGINT)
            await asyncio.sleep(0.1)
        await asyncio.sleep(1.3)
        assert process.returncode is None
        process.send_signal(signal.SIGINT)
        assert await asyncio.wait_for(process.wait(), 10) == 0
        for pid in pids:
            with pytest.raises(ProcessLookupError):
                os.kill(pid, 0)


def test_each_declared_python_is_tested_and_the_contract_beside_the_last() -> None:
    declared = {c.rpartition(" ")[2] for c in PROJECT["classifiers"] if "Python :: 3." in c}
    workflow = yaml.safe_load((ROOT / ".github/workflows/ci.yaml").read_text())
    job = workflow["jobs"]["ci"]
    assert set(job["strategy"]["matrix"]["python"]) == declared
    checkout, *steps = job["steps"]
    assert ".ci/run" in [step.get("run") for step in steps]
    # Otherwise there is no earlier contract to compare this one with.
    assert checkout["with"] == {"fetch-depth": 0, "persist-credentials": False}


def test_generated_code_works_with_the_lowest_versions_declared() -> None:
    """It can't be imported with lower versions, which the wheel must therefore rule out."""
    code = "".join(path.read_text() for path in (ROOT / "generated").rglob("*.py"))
    demanded = {("grpcio", version) for version in re.findall(r"_VERSION = '([\d.]+)'", code)}
    validated = re.findall(r"ValidateProtobufRuntimeVersion\([^)]*?(\d+),\s+(\d+),\s+(\d+)", code)
    demanded |= {("protobuf", ".".join(version)) for version in validated}
    assert {name for name, _ in demanded} == {"grpcio", "protobuf"}
    for name, version in demanded:
        assert f"{name}>={version}" in PROJECT["dependencies"]


def test_the_changelog_has_this_version() -> None:
    assert f"\n## [{PROJECT['version']}] - 20" in (ROOT / "CHANGELOG.md").read_text()
