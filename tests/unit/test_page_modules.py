"""Rules for the modules of the chat page, which no build step checks."""

import re
from graphlib import TopologicalSorter

from scripts.lib.project import ROOT

UI = ROOT / "chat_service" / "ui"
MODULES = {path.name: path.read_text() for path in UI.glob("*.js") if path.name != "early.js"}


def imports(code: str) -> set[str]:
    return set(re.findall(r'^(?:import|\}).* from "\./(.+)";$', code, re.MULTILINE))


def test_the_page_names_all_its_modules_so_that_they_load_at_once() -> None:
    page = (UI / "index.html").read_text()
    named = re.findall(r'<link rel="modulepreload" href="(.+)">', page)
    assert named == sorted(MODULES.keys() - {"app.js"})


def test_no_module_of_the_page_imports_itself_by_way_of_others() -> None:
    graph = {name: imports(code) for name, code in MODULES.items()}
    assert set().union(*graph.values()) == MODULES.keys() - {"app.js"}
    TopologicalSorter(graph).prepare()


def test_modules_of_the_page_are_short() -> None:
    assert [name for name, code in MODULES.items() if len(code.splitlines()) > 220] == []
