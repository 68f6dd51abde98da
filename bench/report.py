"""The result of an experiment: printed, and written for people and programs."""

import json
import math
import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bench.chart import Chart
from bench.measure import Figure, Sample, ratios
from lab.load import percentile

type Row = Mapping[str, float | str]


@dataclass(frozen=True)
class Bar:
    """A figure and its limit."""

    what: str
    measured: float
    limit: float
    unit: str = ""
    at_least: bool = False

    @property
    def met(self) -> bool:
        """Whether the figure is within its limit; NaN never is."""
        if self.at_least:
            return self.measured >= self.limit
        return self.measured <= self.limit

    def row(self) -> Row:
        """The bar as a row of a table."""
        sign = "≥" if self.at_least else "≤"
        return {
            "bar": f"{sign} {number(self.limit)} {self.unit}".strip(),
            "measured": f"{number(self.measured)} {self.unit}".strip(),
            "": "ok" if self.met else "**missed**",
        }


@dataclass
class Result:
    """The result of one experiment."""

    name: str
    title: str
    notes: list[str] = field(default_factory=list)
    bars: list[Bar] = field(default_factory=list)
    tables: dict[str, dict[str, Row]] = field(default_factory=dict)
    charts: dict[str, Chart] = field(default_factory=dict)
    load_average: tuple[float, float] = (0, 0)
    """Before and after the experiment."""
    seconds: float = 0
    quick: bool = False
    machine: dict[str, str] = field(default_factory=dict)

    def markdown(self) -> str:
        """The section for the summary."""
        lines = [f"## {self.title}", "", *self.notes]
        began, ended = self.load_average
        kind, date = "quick pass, " if self.quick else "", self.machine["date"]
        lines += ["", f"*{date}, {kind}load average {began:.1f} before, {ended:.1f} after*"]
        if self.bars:
            lines += ["", *table({bar.what: bar.row() for bar in self.bars})]
        for title, rows in self.tables.items():
            lines += ["", f"### {title}", "", *table(rows)]
        for file, chart in self.charts.items():
            lines += ["", f"![{chart.title}]({file}.svg)"]
        return "\n".join([*lines, ""])

    def write(self, into: Path) -> None:
        """Write the figures as JSON, and the charts."""
        figures = {
            "title": self.title,
            "quick": self.quick,
            "machine": self.machine,
            "load_average": self.load_average,
            "seconds": round(self.seconds, 1),
            "bars": [{**vars(bar), "met": bar.met} for bar in self.bars],
            "tables": self.tables,
            "markdown": self.markdown(),
        }
        text = json.dumps(figures, indent=1, ensure_ascii=False, default=dict)
        (into / f"{self.name}.json").write_text(text + "\n")
        for file, chart in self.charts.items():
            (into / f"{file}.svg").write_text(chart.svg())


def write_summary(into: Path, machine: Mapping[str, str], order: Sequence[str]) -> None:
    """Write README.md from the JSON files, those of earlier runs included, which tell their own
    dates."""
    lines = ["# Measurements", "", "Made by `scripts/bench.sh`; don't edit.", ""]
    lines += [f"- {key}: {value}" for key, value in machine.items() if key != "date"]
    for name in order:
        file = into / f"{name}.json"
        if file.exists():
            lines += ["", json.loads(file.read_text())["markdown"].rstrip()]
    (into / "README.md").write_text("\n".join([*lines, ""]))


def row(samples: Sequence[Sample]) -> Row:
    """A side's figures over all rounds together; its rate is the median of the rounds."""
    latencies = [1e3 * s for sample in samples for s in sample.latencies_s]
    errors: Counter[str] = sum((sample.errors for sample in samples), Counter())
    found: dict[str, float | str] = {
        "a second": statistics.median(sample.rate for sample in samples),
        "p50 ms": percentile(latencies, 50),
        "p90 ms": percentile(latencies, 90),
        "p99 ms": percentile(latencies, 99),
        "max ms": max(latencies, default=float("nan")),
        "requests": len(latencies),
        "errors": ", ".join(f"{code}: {n}" for code, n in sorted(errors.items())) or "none",
    }
    for process in {name: None for sample in samples for name in sample.cpu_s}:
        median = statistics.median(sample.cpu_us(process) for sample in samples)
        found[f"CPU µs {process}"] = median
    return found


def comparison(samples: Mapping[str, Sequence[Sample]], figure: Figure) -> Row:
    """A figure of two sides: the median of each over the rounds, and the median, minimum and
    maximum of the ratios per round."""
    (ours, theirs) = samples
    found = ratios(samples[ours], samples[theirs], figure)
    return {
        **{side: statistics.median(map(figure, rounds)) for side, rounds in samples.items()},
        f"{ours} / {theirs}": statistics.median(found),
        "least": min(found),
        "most": max(found),
    }


def table(rows: Mapping[str, Row]) -> list[str]:
    """A Markdown table. Where a row lacks a column, its cell is empty."""
    columns = list(dict.fromkeys(column for found in rows.values() for column in found))
    lines = ["| | " + " | ".join(columns) + " |", "|---" * (len(columns) + 1) + "|"]
    for name, found in rows.items():
        cells = [_cell(found.get(column, "")) for column in columns]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return lines


def _cell(value: float | str) -> str:
    return value if isinstance(value, str) else number(value)


def number(value: float) -> str:
    """Rounded to three digits, as no figure here is more precise."""
    if math.isnan(value):
        return "none"
    if abs(value) >= 100:
        return f"{value:,.0f}".replace(",", "\u202f")
    return f"{value:.3g}"
