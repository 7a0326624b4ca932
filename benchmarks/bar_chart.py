"""Figures as horizontal bars over one logarithmic axis, one chart below the other, as SVG."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape

from benchmarks.figures import Row

_WIDTH, _LEFT, _RIGHT, _TOP, _LINE, _GAP = 640, 190, 70, 28, 24, 34
_STYLE = (
    "text{font:12px sans-serif;fill:#555}.title{font-weight:bold;fill:#222}"
    ".grid{stroke:#ddd}.bar{fill:#0366d6}svg{background:#fff}"
)


@dataclass(frozen=True)
class Chart:
    """Rows whose numbers are above zero and of one unit."""

    title: str
    rows: Sequence[Row]


def svg(charts: Sequence[Chart]) -> str:
    """All charts on the same axis, so that they can be compared."""
    numbers = [row.number for chart in charts for row in chart.rows if row.number]
    low = 10.0 ** math.floor(math.log10(min(numbers)))
    decades = max(1, math.ceil(math.log10(max(numbers) / low)))
    drawn: list[str] = []
    y = 0
    for chart in charts:
        drawn.append(f'<g transform="translate(0,{y})">{_panel(chart, low, decades)}</g>')
        y += _TOP + _LINE * len(chart.rows) + _GAP
    head = f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{y}">'
    return "\n".join([f"{head}<style>{_STYLE}</style>", *drawn, "</svg>", ""])


def _panel(chart: Chart, low: float, decades: int) -> str:
    room, bottom = _WIDTH - _LEFT - _RIGHT, _TOP + _LINE * len(chart.rows)
    drawn = [f'<text class="title" x="{_LEFT}" y="16">{escape(chart.title)}</text>']
    unit = next((row.unit for row in chart.rows), "")
    for power in range(decades + 1):
        x = _LEFT + room * power / decades
        drawn.append(f'<path class="grid" d="M{x:.1f} {_TOP}V{bottom}"/>')
        label = f"{low * 10**power:g} {unit}"
        drawn.append(f'<text x="{x:.1f}" y="{bottom + 15}" text-anchor="middle">{label}</text>')
    for place, row in enumerate(chart.rows):
        y = _TOP + _LINE * place
        length = max(2.0, room * math.log10((row.number or low) / low) / decades)
        drawn.append(
            f'<text x="{_LEFT - 6}" y="{y + 16}" text-anchor="end">{escape(row.what)}</text>'
            f'<rect class="bar" x="{_LEFT}" y="{y + 4}" width="{length:.1f}" height="{_LINE - 8}"/>'
            f'<text x="{_LEFT + length + 5:.1f}" y="{y + 16}">{escape(row.value)}</text>'
        )
    return "".join(drawn)
