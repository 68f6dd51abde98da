"""The commands in the documents, and the output that they print.

A document is one session. `<!-- session: NAME -->` begins another, which continues in every
document that names it. CONTRIBUTING.md explains the other marks."""

import re
import subprocess
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from scripts.lib.project import ROOT

_FENCE = re.compile(r"^```(\w*)$")
_WITHOUT_BLOCK = ("Ctrl-C", "ends")
_MARK = re.compile(r"^<!-- (session|file|not run|keeps running|Ctrl-C|ends)(?:: (.+))? -->$")


@dataclass(frozen=True)
class Step:
    """One command of a session."""

    where: str
    command: str
    """Or `<Ctrl-C>` or `<ends>`, for the last command that keeps running."""
    expected: list[str] = field(default_factory=list)
    """The lines of its expected output."""
    keeps_running: bool = False


@dataclass(frozen=True)
class Block:
    """The text between two fences, with the mark before it."""

    where: str
    kind: str
    text: str
    session: str
    mark: str
    argument: str

    def steps(self) -> Iterator[Step]:
        """The commands in it. Raises `AssertionError` with the place if they can't be parsed."""
        if self.mark in _WITHOUT_BLOCK:
            yield Step(self.where, f"<{self.mark}>")
        elif self.mark == "file":
            folder = Path(self.argument).parent
            yield Step(self.where, f"mkdir -p {folder}; cat >{self.argument} {self._as_input()}")
        elif self.kind == "diff":
            yield Step(self.where, f"git apply --recount {self._as_input()}")
        elif self.kind == "console":
            yield from self._commands()

    def _as_input(self) -> str:
        return f"<<'END-OF-BLOCK'\n{self.text}END-OF-BLOCK\n"

    def _commands(self) -> Iterator[Step]:
        document, _, line = self.where.rpartition(":")
        lines = deque(enumerate(self.text.splitlines(), int(line) + 1))
        while lines:
            number, text = lines.popleft()
            where = f"{document}:{number}"
            assert text.startswith("$ "), f"{where}: begin with a command, `$ …`"
            command = text[2:] + "\n"
            while lines and not is_whole(command):
                command += lines.popleft()[1] + "\n"
            expected = []
            while lines and not lines[0][1].startswith("$ "):
                expected.append(lines.popleft()[1])
            goes_on = self.mark == "keeps running" and not lines
            yield Step(where, command, expected, goes_on)


def is_whole(command: str) -> bool:
    """Whether bash would run it without waiting for another line."""
    if command.endswith("\\\n"):
        return False
    check = subprocess.run(
        ["bash", "-n"],
        input=command,
        capture_output=True,
        text=True,
        check=False,
        env={"LC_ALL": "C"},
    )
    return not re.search("end of file|end-of-file|unexpected EOF", check.stderr)


def documents() -> list[Path]:
    """The documents in reading order."""
    first = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md")]
    return [*first, *sorted((ROOT / "docs").rglob("*.md"))]


def blocks_of(document: Path) -> Iterator[Block]:
    """Raises `AssertionError` if no block follows a mark."""
    name = str(document.relative_to(ROOT)) if document.is_relative_to(ROOT) else document.name
    session, mark, argument = name, "", ""
    lines = iter(enumerate(document.read_text().splitlines(), 1))
    for number, line in lines:
        where = f"{name}:{number}"
        if found := _MARK.match(line):
            assert not mark, f"{where}: the mark before this one has no block"
            mark, argument = found[1], found[2] or ""
            if mark == "session":
                session, mark = argument, ""
            elif mark in _WITHOUT_BLOCK:
                yield Block(where, "", "", session, mark, "")
                mark = ""
        elif found := _FENCE.match(line):
            text = ""
            for _, inner in lines:
                if inner == "```":
                    break
                text += inner + "\n"
            yield Block(where, found[1], text, session, mark, argument)
            mark = ""
    assert not mark, f"{name}: <!-- {mark} --> has no block"


def sessions() -> dict[str, list[Step]]:
    """The steps of each session, without those that can't be run here."""
    found: dict[str, list[Step]] = {}
    for document in documents():
        for block in blocks_of(document):
            if block.mark != "not run":
                found.setdefault(block.session, []).extend(block.steps())
    return {name: steps for name, steps in found.items() if steps}


def left_out() -> list[Block]:
    """The blocks that can't be run here, with the reason as their argument."""
    return [b for document in documents() for b in blocks_of(document) if b.mark == "not run"]
