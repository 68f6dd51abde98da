"""Line charts in SVG."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

_WIDTH, _HEIGHT = 640, 360
_LEFT, _RIGHT, _TOP, _BOTTOM = 64, 16, 40, 76
_COLOURS = ("#2563eb", "#dc2626", "#059669", "#d97706", "#7c3aed", "#475569")


@dataclass(frozen=True)
class Chart:
    """A line chart."""

    title: str
    x: str
    y: str
    lines: Mapping[str, Sequence[tuple[float, float]]]
    log_x: bool = False
    log_y: bool = False

    def svg(self) -> str:
        """The whole SVG document."""
        points = [p for line in self.lines.values() for p in line]
        across = _Axis([x for x, _ in points], _LEFT, _WIDTH - _RIGHT, log=self.log_x)
        up = _Axis([y for _, y in points], _HEIGHT - _BOTTOM, _TOP, log=self.log_y, zero=True)
        parts = [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}"'
            ' font-family="sans-serif" font-size="12">',
            f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="white"/>',
            _text(_LEFT, 22, self.title, size=14),
            _text((_LEFT + _WIDTH - _RIGHT) / 2, _HEIGHT - _BOTTOM + 34, self.x, anchor="middle"),
            _text(_LEFT - 8, _TOP - 6, self.y, anchor="middle", size=11),
        ]
        for tick in up.ticks():
            y = up.place(tick)
            parts.append(f'<path d="M{_LEFT} {y:.1f}H{_WIDTH - _RIGHT}" stroke="#ddd"/>')
            parts.append(_text(_LEFT - 6, y + 4, _number(tick), anchor="end"))
        ticks = across.ticks() if self.log_x else sorted({x for x, _ in points})
        for tick in ticks:
            x = across.place(tick)
            parts.append(_text(x, _HEIGHT - _BOTTOM + 16, _number(tick), anchor="middle"))
        for n, (name, line) in enumerate(self.lines.items()):
            colour = _COLOURS[n % len(_COLOURS)]
            places = " ".join(f"{across.place(x):.1f},{up.place(y):.1f}" for x, y in line)
            parts.append(
                f'<polyline points="{places}" fill="none" stroke="{colour}" stroke-width="2"/>'
            )
            parts += [
                f'<circle cx="{across.place(x):.1f}" cy="{up.place(y):.1f}" r="3" fill="{colour}"/>'
                for x, y in line
            ]
            left = _LEFT + n * (_WIDTH - _LEFT - _RIGHT) / len(self.lines)
            parts.append(
                f'<rect x="{left:.0f}" y="{_HEIGHT - 22}" width="10" height="10" fill="{colour}"/>'
            )
            parts.append(_text(left + 14, _HEIGHT - 13, name))
        return "\n".join([*parts, "</svg>", ""])


class _Axis:
    def __init__(
        self, values: Sequence[float], start: float, end: float, *, log: bool, zero: bool = False
    ) -> None:
        self._log = log
        if log:
            self._low = 10 ** math.floor(math.log10(min(values)))
            self._high = 10 ** math.ceil(math.log10(max(*values, self._low * 1.01)))
        else:
            self._low = 0 if zero else min(values)
            self._high = max(values) or 1
        self._start, self._end = start, end

    def place(self, value: float) -> float:
        low, high = self._low, self._high
        if self._log:
            value, low, high = math.log10(value), math.log10(low), math.log10(high)
        part = (value - low) / (high - low) if high > low else 0.5
        return self._start + part * (self._end - self._start)

    def ticks(self) -> list[float]:
        if self._log:
            low, high = round(math.log10(self._low)), round(math.log10(self._high))
            return [10.0**n for n in range(low, high + 1)]
        rough = self._high / 5
        unit = 10 ** math.floor(math.log10(rough))
        step = next(unit * m for m in (1, 2, 5, 10) if unit * m >= rough)
        return [step * n for n in range(math.floor(self._high / step) + 1)]


def _text(x: float, y: float, text: str, *, anchor: str = "start", size: int = 12) -> str:
    place = f'x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}"'
    return f'<text {place} fill="#222">{escape(text)}</text>'


def _number(value: float) -> str:
    return f"{value:,.6g}".replace(",", "\u2009")
