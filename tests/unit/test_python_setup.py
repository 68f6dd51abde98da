"""Which Python and packages the scripts bring; with a fake uv."""

import os
import signal
import tomllib
from fnmatch import fnmatch

import pytest

from scripts.lib.project import ROOT
from tests.unit.test_setup import UV, Machine, machine

__all__ = ["machine"]

PYTHON = """
mkdir -p "$3/bin"
printf '#!/bin/bash\\n%s\\n' "$PIP" >"$3/bin/pip"; chmod 755 "$3/bin/pip"
"""


PLATFORMS = ("manylinux*_x86_64", "manylinux*_aarch64", "macosx*_arm64", "macosx*_x86_64")


@pytest.mark.parametrize("platform", PLATFORMS)
def test_no_package_needs_a_compiler_on_the_usual_platforms(platform: str) -> None:
    wheels: dict[str, list[str]] = {}
    for package in tomllib.loads((ROOT / "uv.lock").read_text())["package"]:
        wheels.setdefault(package["name"], []).extend(w["url"] for w in package.get("wheels", ()))
    tags = ("-any", platform, *(["macosx*_universal2"] if "macosx" in platform else []))
    lacking = [
        name
        for name, urls in wheels.items()
        if urls and not any(fnmatch(url, f"*{tag}*.whl") for url in urls for tag in tags)
    ]
    assert lacking == ["pywin32"]


def test_run_sh_installs_no_development_tools_and_removes_none(machine: Machine) -> None:
    machine.has("uv", UV)
    assert machine.sourced(f"cd {machine.venv()}; ensure_runtime --extra local")[0] == 0
    options = "--inexact --no-default-groups --group run --extra local"
    assert {call.partition(options)[1:] for call in machine.called()[-2:]} == {(options, "")}


@pytest.mark.parametrize("name", ["UV_CACHE_DIR", "UV_OFFLINE", "PIP_TIMEOUT", "XDG_CACHE_HOME"])
@pytest.mark.parametrize("value", ["''", "' '"])
def test_an_empty_variable_of_a_tool_counts_as_unset(
    machine: Machine, name: str, value: str
) -> None:
    shown = machine.run(f"export {name}={value}; . scripts/lib/env.sh; echo ${{{name}-unset}}")[1]
    assert shown == "unset\n"


@pytest.mark.parametrize("name", ["UV_NO_DEV", "UV_NO_DEFAULT_GROUPS"])
def test_no_variable_leaves_out_the_development_tools(machine: Machine, name: str) -> None:
    machine.has("uv", f"{UV}; echo ${{{name}-unset}} >>{machine.calls}")
    folder = machine.venv()
    assert machine.run(f"export {name}=1; . scripts/lib/env.sh; cd {folder}; ensure_python")[0] == 0
    assert machine.called()[-1] == "unset"


def test_a_relative_cache_folder_is_ignored(machine: Machine) -> None:
    told = machine.run("export XDG_CACHE_HOME=here; . scripts/lib/env.sh; echo $DACA_CACHE")[1]
    assert told == f"{machine.home}/.cache/daca-chat\n"


def test_packages_are_compiled_once_after_they_came(machine: Machine) -> None:
    machine.has("uv", UV)
    folder = machine.venv()
    for comes, compiles in ((False, True), (False, False), (True, True)):
        if comes:
            (folder / ".venv/lib/python3.12/site-packages/another").mkdir()
        machine.calls.unlink(missing_ok=True)
        assert machine.sourced(f"cd {folder}; ensure_python")[0] == 0
        syncs = [call for call in machine.called() if call.startswith("uv sync")]
        assert syncs == ["uv sync --frozen", *["uv sync --frozen --compile-bytecode"] * compiles]


def test_a_failed_compilation_is_repeated_the_next_time(machine: Machine) -> None:
    machine.has("uv", f"{UV}; [[ $* != *--compile-bytecode ]]")
    folder = machine.venv()
    for _ in range(2):
        code, _, told = machine.sourced(f"cd {folder}; ensure_python")
        assert (code, "uv could not install" in told) == (1, True)
        assert machine.called()[-1] == "uv sync --frozen --compile-bytecode"


def test_packages_are_installed_anew_after_the_folder_has_moved(machine: Machine) -> None:
    """Otherwise programs like mypy aren't found, or are those of the folder that was copied."""
    machine.has("uv", f"{UV}; mkdir -p .venv")
    folder = machine.venv()
    assert machine.sourced(f"cd {folder}; ensure_python")[0] == 0
    old = folder / ".venv/lib"
    assert machine.sourced(f"cd {folder}; ensure_python")[0] == 0
    assert old.exists()
    moved = folder.rename(folder.with_name("moved"))
    assert machine.sourced(f"cd {moved}; ensure_python")[0] == 0
    assert not (moved / ".venv/lib").exists()


def test_packages_that_another_folder_uses_too_stay(machine: Machine) -> None:
    machine.has("uv", f"{UV}; mkdir -p .venv")
    folder = machine.venv()
    other = folder.with_name("other")
    other.mkdir()
    (other / ".venv").symlink_to(folder / ".venv")
    assert machine.sourced(f"cd {other}; ensure_python")[0] == 0
    assert machine.sourced(f"cd {folder}; ensure_python")[0] == 0
    assert (folder / ".venv/lib").exists()


def test_an_installed_later_python_is_preferred_to_a_download(machine: Machine) -> None:
    finds = f'[[ $* != "python find --system" ]] && echo "$UV_PYTHON" >>{machine.calls}'
    machine.has("uv", f"{UV}; {finds}")
    assert machine.sourced(f"cd {machine.venv()}; ensure_runtime")[0] == 0
    assert machine.called()[-1] == ">=3.12"


def test_a_venv_that_works_keeps_its_python(machine: Machine) -> None:
    """A stack may be running from it."""
    machine.has("uv", f'{UV}; [[ $1 != sync ]] || echo "$UV_PYTHON" >>{machine.calls}')
    folder = machine.venv()
    (folder / ".venv/bin").mkdir()
    python = folder / ".venv/bin/python"
    python.write_text("#!/bin/bash\necho 3.13\n")
    python.chmod(0o755)
    assert machine.sourced(f"cd {folder}; ensure_runtime")[0] == 0
    assert machine.called()[-1] == "3.13"
    assert machine.sourced(f"cd {folder}; export UV_PYTHON=3.14; ensure_runtime")[0] == 0
    assert machine.called()[-1] == "3.14"


def test_without_a_network_packages_come_from_the_cache(machine: Machine) -> None:
    machine.has("uv", f"{UV}; [[ $1 != sync || $* == *--offline* || $* == *--compile* ]]")
    assert machine.sourced(f"cd {machine.venv()}; ensure_runtime")[0] == 0


def test_where_all_is_installed_uv_needs_no_cache(machine: Machine) -> None:
    machine.has("uv", f"{UV}; [[ $1 != sync || $* == *--no-cache* || $* == *--compile* ]]")
    assert machine.sourced(f"cd {machine.venv()}; ensure_runtime")[0] == 0


BRINGS_UV = ': >"${0%/*}/uv"; chmod 755 "${0%/*}/uv"'


def test_a_failed_installation_of_uv_does_not_disturb_a_concurrent_one(machine: Machine) -> None:
    begun, goes_on = machine.home / "begun", machine.home / "goes_on"
    waits = f": >{begun}; until [[ -e {goes_on} ]]; do sleep 0.1; done; {BRINGS_UV}"
    machine.has("curl", "exit 1")
    machine.has("python3", f"PIP='{waits}'{PYTHON}")
    process = machine.start("set -euo pipefail; . scripts/lib/env.sh; uv=$(find_uv); [[ -x $uv ]]")
    machine.wait_for(begun)
    machine.has("python3", f"PIP='exit 1'{PYTHON}")
    assert machine.sourced("find_uv")[0] == 1
    goes_on.touch()
    process.communicate(timeout=60)
    assert process.returncode == 0


def test_uv_is_installed_nowhere_else_if_the_cache_cannot_be_written(machine: Machine) -> None:
    machine.has("python3", "")
    code, _, err = machine.sourced("DACA_CACHE=/proc/none; find_uv")
    assert (code, "/proc/none" in err, machine.called()) == (1, True, [])


@pytest.mark.parametrize("version", [None, "0.4.30", "0.5.31"])
def test_an_old_uv_is_not_taken(machine: Machine, version: str | None) -> None:
    if version:
        machine.has("uv", f"echo 'uv {version} (of a day)'")
    machine.has("python3", f"PIP='{BRINGS_UV}'{PYTHON}")
    code, out, _ = machine.sourced("find_uv")
    assert code == 0
    assert out.startswith(f"{machine.home}/.cache/daca-chat/uv/")


def test_ctrl_c_during_pip_runs_no_installer(machine: Machine) -> None:
    fails = f"trap 'exit 1' INT; echo >{machine.home}/begun; while :; do sleep 0.1; done"
    machine.has("python3", f'PIP="{fails}"{PYTHON}')
    machine.has("curl", "")
    process = machine.start("set -euo pipefail; . scripts/lib/env.sh; uv=$(find_uv); echo $uv")
    machine.wait_for(machine.home / "begun")
    os.killpg(process.pid, signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode == 130
    assert not [call for call in machine.called() if call.startswith("curl")]
