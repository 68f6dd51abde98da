"""The rules of the house, as far as a program can check them."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MODULES = sorted(
    path.relative_to(ROOT)
    for folder in ("analytics_service", "chat_service", "daca_shared")
    for path in (ROOT / folder).rglob("*.py")
)
SETTINGS = [path for path in MODULES if path.name == "settings.py"]


def imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse((ROOT / path).read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def packages(path: Path) -> set[str]:
    return {name.partition(".")[0] for name in imports(path)}


def reads_environment(path: Path) -> bool:
    names = {"environ", "environb", "getenv", "getenvb"}
    tree = ast.parse((ROOT / path).read_text())
    uses = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    return bool(
        names & (uses | {name.rpartition(".")[2] for name in imports(path)})
        or "pydantic_settings" in packages(path)
    )


@pytest.mark.parametrize("path", MODULES, ids=str)
def test_services_meet_only_in_shared_packages(path: Path) -> None:
    allowed = {
        "analytics_service": {"analytics_service", "daca_shared", "daca"},
        "chat_service": {"chat_service", "daca_shared", "daca"},
        "daca_shared": {"daca_shared"},
    }
    ours = packages(path) & {*allowed, "daca", "tests", "scripts"}
    assert ours <= allowed[path.parts[0]]


@pytest.mark.parametrize("path", MODULES, ids=str)
def test_only_settings_modules_read_the_environment(path: Path) -> None:
    assert not reads_environment(path) or path in SETTINGS


def test_the_environment_rule_sees_a_reader() -> None:
    assert reads_environment(Path("daca_shared/settings.py"))


@pytest.mark.parametrize("path", MODULES, ids=str)
def test_modules_are_short(path: Path) -> None:
    assert len((ROOT / path).read_text().splitlines()) <= 220


@pytest.mark.parametrize(
    ("module", "strangers"),
    [
        ("chat_service.chat.conversation", {"grpc", "fastapi", "agents"}),
        ("analytics_service.store", {"grpc", "fastapi", "agents"}),
        ("daca_shared.domain", {"grpc", "fastapi", "agents"}),
        ("analytics_service.__main__", {"agents", "openai", "fastapi", "opentelemetry.sdk"}),
        ("chat_service.__main__", {"opentelemetry.sdk", "opentelemetry.exporter", "requests"}),
    ],
)
def test_importing_brings_in_no(module: str, strangers: set[str]) -> None:
    code = f"import {module}, sys; print({strangers!r} & set(sys.modules))"
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert run.stdout.strip() == "set()"


@pytest.mark.parametrize("folder", ["lab", "bench"])
def test_measurements_need_no_tests(folder: str) -> None:
    strangers = {"tests", "bench"} - {folder}
    for path in (ROOT / folder).rglob("*.py"):
        assert not packages(path) & strangers, path
