"""Writes the tables of docs/configuration.md, and .env.example, from the settings. With `--check`
it fails if they are out of date."""

import argparse
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from pydantic.fields import FieldInfo

from analytics_service.settings import AnalyticsSettings
from chat_service.settings import ChatSettings
from daca_shared.settings import ServiceSettings
from scripts.lib.environments import share
from scripts.lib.project import ROOT
from scripts.lib.run_file import read_run_file
from scripts.lib.settings import RunnerSettings

DOCUMENT = ROOT / "docs/configuration.md"
EXAMPLE = ROOT / ".env.example"

_SECTIONS: dict[str, type[ServiceSettings]] = {
    "The chat service": ChatSettings,
    "The analytics service": AnalyticsSettings,
    "Both services": ServiceSettings,
    "`scripts/run.sh`": RunnerSettings,
}
_BEGIN = "<!-- From the settings' own docstrings: change them, and run scripts/gen_docs.sh. -->\n"
_END = "<!-- End of what scripts/gen_docs.sh writes. -->"
_HEAD = """\
# Copy to .env and uncomment what you need; docs/configuration.md says more. The environment wins
# over .env, and an empty value counts as unset. Under `dapr run -f` the values in dapr.yaml win
# over both. Written by scripts/gen_docs.sh, from the settings.
"""


class Setting:
    """One variable, as it is documented."""

    def __init__(self, field: FieldInfo) -> None:
        """Raises `ValueError` if it has no docstring."""
        self.variable = str(field.validation_alias)
        self.default = _written(field.default)
        if not field.description:
            raise ValueError(f"{self.variable} has no docstring")
        limits = ", ".join(_limits(self.variable, field))
        self.meaning = " ".join(field.description.split())
        if limits:
            self.meaning = f"{self.meaning.removesuffix('.')} ({limits})."


def _written(default: Any) -> str:
    """The default, as it is written in an environment."""
    if default is None:
        return ""
    if isinstance(default, tuple):
        return ",".join(default)
    return str(default).lower() if isinstance(default, bool) else str(default)


def _limits(variable: str, field: FieldInfo) -> Iterator[str]:
    if variable.endswith("_S"):
        yield "seconds"
    words = {"gt": "above", "ge": "at least", "le": "at most"}
    found = ((name, getattr(part, name, None)) for part in field.metadata for name in words)
    bounds = {name: bound for name, bound in found if bound is not None}
    if bounds.get("le") == 65535:  # noqa: PLR2004 - the highest port number
        return
    yield from (f"{words[name]} {bound}" for name, bound in bounds.items())
    if get_origin(field.annotation) is Literal:
        *others, last = (f"`{value}`" for value in get_args(field.annotation))
        yield f"{', '.join(others)} or {last}"


def _settings() -> dict[str, list[Setting]]:
    """The settings of each section."""
    shared = set(ServiceSettings.model_fields)
    return {
        title: [
            Setting(field)
            for name, field in settings.model_fields.items()
            if settings is ServiceSettings or name not in shared
        ]
        for title, settings in _SECTIONS.items()
    }


def tables() -> str:
    """The settings of all sections, as tables in Markdown."""
    in_run_file = {n: v for app in read_run_file(ROOT).apps for n, v in app.environment.items()}
    lines = []
    for title, settings in _settings().items():
        lines += [f"## {title}", "", "| variable | default | meaning |", "|---|---|---|"]
        with_sidecar = share({s.variable: "set" for s in settings}, "daprd")
        for s in settings:
            marks = "¹" if s.variable in in_run_file else ""
            marks += "²" if s.variable in with_sidecar else ""
            default = f"`{s.default}`" if s.default else ""
            if in_run_file.get(s.variable, s.default) != s.default:
                default += f"; in `dapr.yaml` `{in_run_file[s.variable]}`"
            meaning = s.meaning.removesuffix(".").replace("|", "\\|")
            lines.append(f"| {' '.join([f'`{s.variable}`', *marks])} | {default} | {meaning} |")
        lines.append("")
    return "\n".join(lines)


def example() -> str:
    """`.env.example`, with nothing set."""
    lines = [_HEAD]
    for title, settings in _settings().items():
        lines += [f"# --- {title.replace('`', '')}", ""]
        for s in settings:
            plain = s.meaning.replace("`", "")
            lines += textwrap.wrap(plain, 98, initial_indent="# ", subsequent_indent="# ")
            lines.append(f"#{s.variable}={s.default}")
        lines.append("")
    return "\n".join(lines)


def wanted() -> dict[Path, str]:
    """What each file should contain."""
    head, _, rest = DOCUMENT.read_text().partition(_BEGIN)
    tail = rest.partition(_END)[2]
    return {DOCUMENT: f"{head}{_BEGIN}\n{tables()}{_END}{tail}", EXAMPLE: example()}


def main() -> None:
    """See `scripts/gen_docs.sh`."""
    parser = argparse.ArgumentParser(prog="scripts/gen_docs.sh", description=__doc__)
    parser.add_argument("--check", action="store_true", help="change nothing")
    check = parser.parse_args().check
    changed = [path for path, text in wanted().items() if path.read_text() != text]
    if check and changed:
        names = ", ".join(str(path.relative_to(ROOT)) for path in changed)
        sys.exit(f"{names}: not what the settings say; run scripts/gen_docs.sh and commit it")
    for path, text in wanted().items():
        path.write_text(text)


if __name__ == "__main__":
    main()
