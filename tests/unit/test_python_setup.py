"""Which Python and packages the scripts bring; with a fake uv."""

from tests.unit.test_setup import Machine, machine

__all__ = ["machine"]


def test_run_sh_installs_no_development_tools_and_removes_none(machine: Machine) -> None:
    machine.has("uv", "")
    assert machine.sourced(f"cd {machine.venv()}; ensure_runtime --extra local")[0] == 0
    options = "--inexact --no-default-groups --group run --extra local"
    assert {call.partition(options)[1:] for call in machine.called()[-2:]} == {(options, "")}


def test_packages_are_compiled_once_after_they_came(machine: Machine) -> None:
    machine.has("uv", "")
    folder = machine.venv()
    for comes, compiles in ((False, True), (False, False), (True, True)):
        if comes:
            (folder / ".venv/lib/python3.12/site-packages/another").mkdir()
        machine.calls.unlink(missing_ok=True)
        assert machine.sourced(f"cd {folder}; ensure_python")[0] == 0
        syncs = [call for call in machine.called() if call.startswith("uv sync")]
        assert syncs == ["uv sync --frozen", *["uv sync --frozen --compile-bytecode"] * compiles]


def test_packages_that_were_not_compiled_are_the_next_time(machine: Machine) -> None:
    machine.has("uv", "[[ $* != *--compile-bytecode ]]")
    folder = machine.venv()
    for _ in range(2):
        code, _, told = machine.sourced(f"cd {folder}; ensure_python")
        assert (code, "uv could not install" in told) == (1, True)
        assert machine.called()[-1] == "uv sync --frozen --compile-bytecode"


def test_any_later_python_that_is_here_is_taken_before_one_is_fetched(machine: Machine) -> None:
    machine.has("uv", f'[[ $* != "python find --system" ]] && echo "$UV_PYTHON" >>{machine.calls}')
    assert machine.sourced(f"cd {machine.venv()}; ensure_runtime")[0] == 0
    assert machine.called()[-1] == ">=3.12"
