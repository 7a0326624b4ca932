"""A few curves over one logarithmic axis, side by side, as one SVG file."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape

_WIDTH, _HEIGHT, _LEFT, _BOTTOM, _TOP = 300, 220, 58, 34, 30
_STYLE = (
    "text{font:11px sans-serif;fill:#555}.title{font-weight:bold;fill:#222}"
    ".grid{stroke:#ddd}.line{stroke:#0366d6;stroke-width:2;fill:none}.dot{fill:#0366d6}"
    ".bound{stroke:#999;stroke-dasharray:4 3;fill:none}svg{background:#fff}"
)


@dataclass(frozen=True)
class Curve:
    """Values over sizes, both above zero.

    Attributes:
        bound: What the values must stay below to grow no faster than they may; drawn dashed.
    """

    title: str
    unit: str
    points: Sequence[tuple[float, float]]
    bound: Sequence[tuple[float, float]] = ()


def svg(curves: Sequence[Curve]) -> str:
    """The curves in two columns."""
    rows = math.ceil(len(curves) / 2)
    panels = [
        f'<g transform="translate({(place % 2) * _WIDTH},{place // 2 * _HEIGHT})">'
        f"{_panel(curve)}</g>"
        for place, curve in enumerate(curves)
    ]
    size = f'width="{2 * _WIDTH}" height="{rows * _HEIGHT}"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" {size}><style>{_STYLE}</style>'
    return "\n".join([head, *panels, "</svg>", ""])


def _panel(curve: Curve) -> str:
    everything = [*curve.points, *curve.bound]
    xs, ys = _Axis([x for x, _ in everything]), _Axis([y for _, y in everything])

    def at(point: tuple[float, float]) -> tuple[float, float]:
        x = _LEFT + xs.share(point[0]) * (_WIDTH - _LEFT - 14)
        y = _HEIGHT - _BOTTOM - ys.share(point[1]) * (_HEIGHT - _BOTTOM - _TOP)
        return round(x, 1), round(y, 1)

    drawn = [f'<text class="title" x="{_LEFT}" y="16">{escape(curve.title)}</text>']
    for tick in ys.ticks:
        _, y = at((xs.low, tick))
        drawn.append(f'<path class="grid" d="M{_LEFT} {y}H{_WIDTH - 14}"/>')
        drawn.append(f'<text x="{_LEFT - 5}" y="{y + 4}" text-anchor="end">{_told(tick)}</text>')
    for x, _ in curve.points:
        left, _ = at((x, ys.low))
        drawn.append(
            f'<text x="{left}" y="{_HEIGHT - _BOTTOM + 16}" text-anchor="middle">{_told(x)}</text>'
        )
    drawn.append(f'<text x="6" y="{_TOP - 2}">{escape(curve.unit)}</text>')
    for points, kind in ((curve.bound, "bound"), (curve.points, "line")):
        if points:
            path = "L".join(f"{x} {y}" for x, y in map(at, points))
            drawn.append(f'<path class="{kind}" d="M{path}"/>')
    drawn += [f'<circle class="dot" cx="{x}" cy="{y}" r="3"/>' for x, y in map(at, curve.points)]
    return "".join(drawn)


class _Axis:
    """A logarithmic axis that ends at powers of ten."""

    def __init__(self, values: Sequence[float]) -> None:
        first, last = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)))
        last = max(last, first + 1)
        self.low = 10.0**first
        self._decades = last - first
        self.ticks = [10.0**power for power in range(first, last + 1)]

    def share(self, value: float) -> float:
        return math.log10(value / self.low) / self._decades


def _told(value: float) -> str:
    return f"{value:,.0f}" if value >= 1 else f"{value:g}"
