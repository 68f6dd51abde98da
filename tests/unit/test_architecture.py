"""Architecture rules that a program can check. Allowed imports between packages are in
pyproject.toml, for import-linter."""

import ast
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from scripts.lib.project import ROOT

MODULES = sorted(
    path.relative_to(ROOT)
    for folder in ("analytics_service", "chat_service", "daca_shared")
    for path in (ROOT / folder).rglob("*.py")
)
SETTINGS = [path for path in MODULES if path.name == "settings.py"]
READERS = {
    *("environ", "environb", "getenv", "getenvb", "pydantic_settings"),
    *("getproxies", "getproxies_environment", "proxy_bypass", "proxy_bypass_environment"),
}


def source(path: Path) -> str:
    return (ROOT / path).read_text()


def imports(code: str) -> Iterator[str]:
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def reads_environment(code: str) -> bool:
    uses = {node.attr for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Attribute)}
    return bool(READERS & uses.union(*(name.split(".") for name in imports(code))))


def test_packages_import_only_what_they_may() -> None:
    lint = Path(sys.executable).with_name("lint-imports")
    run = subprocess.run(
        [lint, "--no-cache", "--no-logo"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stdout


@pytest.mark.parametrize("path", MODULES, ids=str)
def test_only_settings_modules_read_the_environment(path: Path) -> None:
    assert not reads_environment(source(path)) or path in SETTINGS


@pytest.mark.parametrize(
    "code",
    [
        "import os\nos.environ['A']",
        "from os import getenv as look",
        "from urllib.request import proxy_bypass",
        "import urllib.request\nurllib.request.getproxies()",
        "from pydantic_settings import BaseSettings",
    ],
)
def test_the_environment_rule_detects_all_ways_to_read_it(code: str) -> None:
    assert reads_environment(code)


@pytest.mark.parametrize("path", MODULES, ids=str)
def test_private_names_stay_in_their_module(path: Path) -> None:
    """Ruff finds private names of other packages and of objects."""
    assert not [name for name in imports(source(path)) if name.rpartition(".")[2].startswith("_")]


@pytest.mark.parametrize("path", MODULES, ids=str)
def test_modules_are_short(path: Path) -> None:
    assert len(source(path).splitlines()) <= 220


def test_folders_are_small() -> None:
    sizes = Counter(path.parent for path in MODULES if path.name != "__init__.py")
    assert {folder: size for folder, size in sizes.items() if size > 8} == {}


@pytest.mark.parametrize(
    ("modules", "strangers"),
    [
        (
            "chat_service.chat.conversation, chat_service.turns.store, chat_service.outbox.outbox,"
            " analytics_service.store, daca_shared.domain",
            {"grpc", "fastapi", "agents"},
        ),
        ("analytics_service.__main__", {"agents", "openai", "fastapi", "opentelemetry.sdk"}),
        (
            "chat_service.__main__",
            {"opentelemetry.sdk", "opentelemetry.exporter", "requests", "asyncpg"},
        ),
    ],
)
def test_importing_does_not_load(modules: str, strangers: set[str]) -> None:
    code = f"import sys, {modules}; print({strangers!r} & set(sys.modules))"
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert run.stdout.strip() == "set()"
