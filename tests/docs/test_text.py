"""The form of the documents, and how it is parsed."""

import re
from pathlib import Path

import pytest
import yaml

from scripts.lib.project import ROOT
from tests.docs.likeness import is_like
from tests.docs.text import Step, blocks_of, documents

DOCUMENTS = pytest.mark.parametrize(
    "document", documents(), ids=lambda path: str(path.relative_to(ROOT))
)
KINDS = {"console", "diff", "ini", "json", "mermaid", "proto", "python", "sql", "yaml"}
_LINK = re.compile(r"\]\((?!https?:)([^)#\s]*)(?:#([^)\s]+))?\)")


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= 200


def test_the_readme_leads_to_every_document() -> None:
    assert {f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md")} <= named_in("README.md")


def test_the_tutorial_leads_to_every_chapter() -> None:
    chapters = {path.name for path in (ROOT / "docs/tutorial").glob("[0-9]*.md")}
    assert chapters <= named_in("docs/tutorial/README.md")


def named_in(document: str) -> set[str]:
    return {path for path, _ in _LINK.findall((ROOT / document).read_text())}


def test_every_error_code_is_explained() -> None:
    folders = ("chat_service", "analytics_service", "daca_shared")
    source = "".join(p.read_text() for each in folders for p in (ROOT / each).rglob("*.py"))
    codes = set(re.findall(r'(?:code=|Problem\(\d+, |\d: |cls\(\d+, )"([A-Z_]+)"', source))
    assert {"INTERNAL", "NOT_JSON", "BODY_TIMED_OUT", "OVERLOADED"} <= codes
    assert codes <= set(re.findall(r"`([A-Z_]+)`", (ROOT / "docs/http.md").read_text()))


@DOCUMENTS
def test_a_sidecar_that_is_run_by_hand_listens_on_loopback_only(document: Path) -> None:
    commands = document.read_text().replace("\\\n", "").splitlines()
    by_hand = [command for command in commands if "dapr run --app-id" in command]
    assert [c for c in by_hand if "--dapr-listen-addresses 127.0.0.1" not in c] == []


def test_every_alert_is_explained() -> None:
    (group,) = yaml.safe_load((ROOT / "deploy/observability/alerts.yml").read_text())["groups"]
    alerts = {rule["alert"] for rule in group["rules"]}
    operations = (ROOT / "docs/operations.md").read_text()
    assert alerts == set(re.findall(r"^\| `([A-Z]\w+)`", operations, re.MULTILINE))


@DOCUMENTS
def test_every_block_has_a_kind_or_a_mark(document: Path) -> None:
    """Because only `console` blocks are tried."""
    blocks = [b for b in blocks_of(document) if b.kind or b.text]
    assert [b.where for b in blocks if b.kind not in KINDS and b.mark != "file"] == []
    assert [b.where for b in blocks if b.mark == "not run" and not b.argument] == []


@DOCUMENTS
def test_links_lead_somewhere(document: Path) -> None:
    for path, anchor in _LINK.findall(document.read_text()):
        target = (document.parent / path).resolve() if path else document
        assert target.exists(), path
        if anchor and target.suffix == ".md":
            assert anchor in headings(target), f"{path}#{anchor}"


def headings(document: Path) -> set[str]:
    """The anchors that GitHub makes from headings."""
    titles = re.findall(r"^#+ (.+)$", document.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def steps(folder: Path, text: str) -> list[Step]:
    document = folder / "a.md"
    document.write_text(text)
    return [step for block in blocks_of(document) for step in block.steps()]


def test_a_command_may_span_several_lines(tmp_path: Path) -> None:
    loop, here = "$ for n in 1 2; do\n    echo $n\n  done\n1\n2\n", "$ cat <<E\nx\nE\nx\n"
    text = f"```console\n{loop}$ a \\\n  b\n{here}```\n"
    assert steps(tmp_path, text) == [
        Step("a.md:2", "for n in 1 2; do\n    echo $n\n  done\n", ["1", "2"]),
        Step("a.md:7", "a \\\n  b\n"),
        Step("a.md:9", "cat <<E\nx\nE\n", ["x"]),
    ]


def test_marks_define_how_a_block_is_used(tmp_path: Path) -> None:
    text = (
        "<!-- session: s -->\n<!-- keeps running -->\n```console\n$ a\n$ b\nup\n```\n"
        "<!-- Ctrl-C -->\n<!-- file: x/y.py -->\n```python\nz = 1\n```\n"
    )
    first, second, ctrl_c, file = steps(tmp_path, text)
    assert (first.keeps_running, second.keeps_running) == (False, True)
    assert ctrl_c.command == "<Ctrl-C>"
    assert file.command.startswith("mkdir -p x; cat >x/y.py <<")
    assert "\nz = 1\n" in file.command
    assert {block.session for block in blocks_of(tmp_path / "a.md")} == {"s"}


@pytest.mark.parametrize("text", ["<!-- keeps running -->\n", "```console\nls\n```\n"])
def test_an_invalid_session_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(AssertionError, match=r"a\.md"):
        steps(tmp_path, text)


@pytest.mark.parametrize(
    ("expected", "output"),
    [
        (["id 650d2677-46a6-4ddd-9862-c3148f980c13"], "id 0aaaaaaa-46a6-4ddd-9862-c3148f980c13"),
        (
            ["at 2026-11-24T19:22:23.9Z, 2026-11-24 19:22.16"],
            "at 2027-01-01T00:00:00Z, 2027-01-01 0:00",
        ),
        (["pid 24731, in 9 ms, 0.4 of 12s"], "pid 12, in 12 ms, 1.25 of 3s"),
        (["a  b"], "a b  "),
        (["{…}", "…", "end"], "{1}\n2\n3\nend"),
        (["…"], ""),
        (["version 1.18.1"], "version 1.18.3"),
    ],
)
def test_values_that_differ_between_runs_match(expected: list[str], output: str) -> None:
    assert is_like(output, expected)


@pytest.mark.parametrize(
    ("expected", "output"),
    [
        (['{"message_count":5}'], '{"message_count":6}'),
        (["at 127.0.0.1"], "at 127.0.0.2"),
        (["status 404"], "status 503"),
        ([], "an error"),
        (["a", "b"], "a"),
    ],
)
def test_other_differences_do_not_match(expected: list[str], output: str) -> None:
    assert not is_like(output, expected)
