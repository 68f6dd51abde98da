"""Rules for the modules of the chat page, which no build step checks."""

import re
from graphlib import TopologicalSorter

from scripts.lib.project import ROOT

UI = ROOT / "chat_service" / "ui"
MODULES = {path.name: path.read_text() for path in UI.glob("*.js") if path.name != "early.js"}


def imports(code: str) -> set[str]:
    return set(re.findall(r'^(?:import|\}).* from "\./(.+)";$', code, re.MULTILINE))


def test_the_page_preloads_nothing_as_safari_would_not_ask_for_it_again() -> None:
    """Not even at a reload: an old or missing module would stay until its tab is closed
    (https://bugs.webkit.org/show_bug.cgi?id=193533 and 270357)."""
    assert "preload" not in (UI / "index.html").read_text()


def test_no_module_of_the_page_imports_itself_by_way_of_others() -> None:
    graph = {name: imports(code) for name, code in MODULES.items()}
    assert set().union(*graph.values()) == MODULES.keys() - {"app.js"}
    TopologicalSorter(graph).prepare()


def test_modules_of_the_page_are_short() -> None:
    assert [name for name, code in MODULES.items() if len(code.splitlines()) > 220] == []
