"""Plots as SVG, readable on light and dark pages."""

import math
from html import escape

WIDTH = 760
STYLE = (
    "<style>text{font:13px sans-serif;fill:#6e7781}.t{font-size:15px;font-weight:bold}.n{font-size:12px}"
    ".us{fill:#2f6feb}.them{fill:#8b949e}.reach{stroke:#d1242f;stroke-width:2}.axis{stroke:#8b949e;fill:none}"
    ".grid{stroke:#8b949e;stroke-opacity:.25}.c0{stroke:#2f6feb;fill:#2f6feb}.c1{stroke:#d1242f;fill:#d1242f}"
    ".c2{stroke:#2da44e;fill:#2da44e}.l{fill:none;stroke-width:2}"
    "@media(prefers-color-scheme:dark){text{fill:#adb5bd}.us{fill:#58a6ff}.c0{stroke:#58a6ff;fill:#58a6ff}"
    ".c1{stroke:#ff7b72;fill:#ff7b72}.c2{stroke:#56d364;fill:#56d364}.l{fill:none}}</style>"
)
Point = tuple[float, float]
Line = tuple[str, list[Point]]
Bar = tuple[str, float, str]


def ratios(title: str, rows: list[tuple[str, float, float | None]]) -> str:
    """One bar for each path: our figure divided by theirs. A red mark is what is to be reached, a grey line is 1."""
    step, top, left, right = 30, 60, 300, 90
    height = top + step * len(rows) + 34
    scale = (WIDTH - left - right) / (max([value for _, value, _ in rows] + [1.2]) * 1.05)
    parts = [_head(height, title)]
    for number in range(math.floor((WIDTH - left - right) / scale) + 1):
        x, kind = left + number * scale, "axis" if number == 1 else "grid"
        parts.append(f'<line class="{kind}" x1="{x:.1f}" x2="{x:.1f}" y1="{top - 10}" y2="{height - 32}"/>')
        parts.append(f'<text class="n" x="{x:.1f}" y="{height - 14}" text-anchor="middle">{number}</text>')
    for at, (name, value, reach) in enumerate(rows):
        y = top + step * at
        parts.append(f'<text x="{left - 10}" y="{y + 14}" text-anchor="end">{escape(name)}</text>')
        parts.append(f'<rect class="us" x="{left}" y="{y}" width="{value * scale:.1f}" height="18"/>')
        parts.append(f'<text x="{WIDTH - 30}" y="{y + 14}" text-anchor="end">{value:.2f}</text>')
        if reach is not None:
            x = left + reach * scale
            parts.append(f'<line class="reach" x1="{x:.1f}" x2="{x:.1f}" y1="{y - 3}" y2="{y + 21}"/>')
    parts.append(f'<line class="reach" x1="{WIDTH - 150}" x2="{WIDTH - 150}" y1="10" y2="26"/>')
    parts.append(f'<text x="{WIDTH - 142}" y="24">target</text>')
    return "\n".join([*parts, "</svg>\n"])


def bars(title: str, panels: list[tuple[str, list[Bar]]]) -> str:
    """Panels of horizontal bars, each from nought with a scale of its own; the first bar of a panel is ours."""
    step, left, right, at = 24, 200, 130, 44
    parts = []
    for label, rows in panels:
        parts.append(f'<text x="{left}" y="{at + 14}">{escape(label)}</text>')
        at += 24
        most = max((value for _, value, _ in rows), default=0) or 1
        for number, (name, value, shown) in enumerate(rows):
            width = (WIDTH - left - right) * value / most
            kind = "us" if number == 0 else "them"
            parts.append(f'<text x="{left - 10}" y="{at + 13}" text-anchor="end">{escape(name)}</text>')
            parts.append(f'<rect class="{kind}" x="{left}" y="{at}" width="{max(width, 1):.1f}" height="16"/>')
            parts.append(f'<text x="{left + width + 8:.1f}" y="{at + 13}">{escape(shown)}</text>')
            at += step
        at += 14
    return "\n".join([_head(at, title), *parts, "</svg>\n"])


def curves(title: str, across: str, panels: list[tuple[str, list[Line]]]) -> str:
    """Panels under each other over one logarithmic axis; each has a logarithmic axis and a unit of its own."""
    left, right, top, each, gap = 80, 30, 64, 180, 60
    height = top + len(panels) * (each + gap) - 10
    xs = sorted({x for _, lines in panels for _, line in lines for x, _ in line})
    low_x, high_x = math.log10(xs[0]), math.log10(xs[-1])
    if low_x == high_x:
        high_x += 1
    parts = [_head(height, title)]

    def across_at(x: float) -> float:
        return left + 12 + (math.log10(x) - low_x) / (high_x - low_x) * (WIDTH - left - right - 24)

    for number, (up, lines) in enumerate(panels):
        begin = top + number * (each + gap)
        low, high = _span([y for _, line in lines for _, y in line if y > 0])

        def up_at(y: float, begin=begin, low=low, high=high) -> float:
            return begin + each - (math.log10(y) - low) / (high - low) * each

        for y in _ticks(low, high):
            parts.append(f'<line class="grid" x1="{left}" x2="{WIDTH - right}" y1="{up_at(y):.1f}" y2="{up_at(y):.1f}"/>')
            parts.append(f'<text class="n" x="{left - 9}" y="{up_at(y) + 4:.1f}" text-anchor="end">{_short(y)}</text>')
        parts.append(f'<polyline class="axis" points="{left},{begin} {left},{begin + each} {WIDTH - right},{begin + each}"/>')
        for x in xs:
            place = across_at(x)
            parts.append(f'<line class="axis" x1="{place:.1f}" x2="{place:.1f}" y1="{begin + each}" y2="{begin + each + 5}"/>')
            parts.append(f'<text class="n" x="{place:.1f}" y="{begin + each + 19}" text-anchor="middle">{_short(x)}</text>')
        parts.append(f'<text x="{left}" y="{begin - 10}">{escape(up)}</text>')
        parts += _lines(lines, across_at, up_at, begin)
    parts.append(f'<text x="{(WIDTH + left) / 2}" y="{height - 8}" text-anchor="middle">{escape(across)}</text>')
    return "\n".join([*parts, "</svg>\n"])


def _lines(lines: list[Line], across_at, up_at, begin: float) -> list[str]:
    parts = []
    for at, (name, line) in enumerate(lines):
        points = [(across_at(x), up_at(y)) for x, y in line if y > 0]
        drawn = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        parts.append(f'<polyline class="c{at} l" points="{drawn}"/>')
        parts += [f'<circle class="c{at}" cx="{x:.1f}" cy="{y:.1f}" r="3"/>' for x, y in points]
        if len(lines) > 1:
            x = WIDTH - 30 - 190 * (len(lines) - at)
            parts.append(f'<line class="c{at} l" x1="{x}" x2="{x + 26}" y1="{begin - 14}" y2="{begin - 14}"/>')
            parts.append(f'<text x="{x + 34}" y="{begin - 10}">{escape(name)}</text>')
    return parts


def _head(height: float, title: str) -> str:
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" role="img">'
        f'<title>{escape(title)}</title>{STYLE}<text class="t" x="14" y="24">{escape(title)}</text>'
    )


def _span(values: list[float]) -> tuple[float, float]:
    """The logarithms between which an axis reaches: what is there and some air, half a decade at least."""
    low, high = math.log10(min(values)) - 0.1, math.log10(max(values)) + 0.1
    if high - low < 0.6:
        middle = (low + high) / 2
        low, high = middle - 0.3, middle + 0.3
    return low, high


def _ticks(low: float, high: float) -> list[float]:
    """Round numbers of a logarithmic axis: powers of ten alone where there are enough of them."""
    steps = (1,) if high - low > 3 else (1, 2, 5) if high - low > 1 else (1, 1.5, 2, 3, 4, 5, 7)
    found = [step * 10.0**decade for decade in range(math.floor(low), math.ceil(high) + 1) for step in steps]
    return [value for value in found if low <= math.log10(value) <= high]


def _short(value: float) -> str:
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:g} {unit}"
    return f"{value:g}"
