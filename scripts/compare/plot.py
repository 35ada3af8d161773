"""Plots as SVG, readable on light and dark pages."""

import math
from html import escape

WIDTH, LEFT, RIGHT = 760, 300, 90
STYLE = (
    "<style>text{font:13px sans-serif;fill:#57606a}.t{font-size:15px;font-weight:bold}.us{fill:#2f6feb}"
    ".them{fill:#9aa4b2}.reach{stroke:#d1242f;stroke-width:2}.axis{stroke:#9aa4b2;fill:none}"
    ".line{stroke:#2f6feb;fill:none;stroke-width:2}.other{stroke:#d1242f;fill:none;stroke-width:2;stroke-dasharray:5 4}</style>"
)


def ratios(title: str, rows: list[tuple[str, float, float | None]]) -> str:
    """One bar for each path: our figure divided by theirs. A red mark is what is to be reached, a grey line is 1."""
    step, top = 30, 50
    height = top + step * len(rows) + 20
    most = max([value for _, value, _ in rows] + [1.2]) * 1.05
    scale = (WIDTH - LEFT - RIGHT) / most
    parts = [_head(height, title)]
    one = LEFT + scale
    parts.append(f'<line class="axis" x1="{one:.1f}" x2="{one:.1f}" y1="{top - 10}" y2="{height - 15}"/>')
    for at, (name, value, reach) in enumerate(rows):
        y = top + step * at
        parts.append(f'<text x="{LEFT - 10}" y="{y + 14}" text-anchor="end">{escape(name)}</text>')
        parts.append(f'<rect class="us" x="{LEFT}" y="{y}" width="{value * scale:.1f}" height="18"/>')
        parts.append(f'<text x="{LEFT + value * scale + 6:.1f}" y="{y + 14}">{value:.2f}</text>')
        if reach is not None:
            x = LEFT + reach * scale
            parts.append(f'<line class="reach" x1="{x:.1f}" x2="{x:.1f}" y1="{y - 3}" y2="{y + 21}"/>')
    return "\n".join([*parts, "</svg>\n"])


def curves(title: str, across: str, up: str, lines: list[tuple[str, list[tuple[float, float]]]]) -> str:
    """Curves over two logarithmic axes; the first is ours."""
    height, left, top, bottom, right = 360, 80, 50, 55, 30
    points = [point for _, line in lines for point in line if point[1] > 0]
    low_x, high_x = _decades([x for x, _ in points])
    low_y, high_y = _decades([y for _, y in points])

    def place(x: float, y: float) -> tuple[float, float]:
        share_x = (math.log10(x) - low_x) / (high_x - low_x)
        share_y = (math.log10(y) - low_y) / (high_y - low_y)
        return left + share_x * (WIDTH - left - right), height - bottom - share_y * (height - top - bottom)

    parts = [_head(height, title)]
    for decade in range(low_x, high_x + 1):
        x, y = place(10**decade, 10**low_y)
        parts.append(f'<line class="axis" x1="{x:.1f}" x2="{x:.1f}" y1="{y:.1f}" y2="{y + 5:.1f}"/>')
        parts.append(f'<text x="{x:.1f}" y="{y + 20:.1f}" text-anchor="middle">{_short(10**decade)}</text>')
    for decade in range(low_y, high_y + 1):
        x, y = place(10**low_x, 10**decade)
        parts.append(f'<line class="axis" x1="{x - 5:.1f}" x2="{x:.1f}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text x="{x - 9:.1f}" y="{y + 4:.1f}" text-anchor="end">{_short(10**decade)}</text>')
    x, y = place(10**low_x, 10**low_y)
    parts.append(f'<polyline class="axis" points="{x},{top} {x},{y} {WIDTH - right},{y}"/>')
    parts.append(f'<text x="{WIDTH / 2}" y="{height - 12}" text-anchor="middle">{escape(across)}</text>')
    parts.append(f'<text x="14" y="{top - 10}">{escape(up)}</text>')
    for at, (name, line) in enumerate(lines):
        kind = "line" if at == 0 else "other"
        drawn = " ".join("{:.1f},{:.1f}".format(*place(*point)) for point in line if point[1] > 0)
        parts.append(f'<polyline class="{kind}" points="{drawn}"/>')
        parts.append(f'<line class="{kind}" x1="{WIDTH - 230}" x2="{WIDTH - 200}" y1="{20 + 18 * at}" y2="{20 + 18 * at}"/>')
        parts.append(f'<text x="{WIDTH - 192}" y="{24 + 18 * at}">{escape(name)}</text>')
    return "\n".join([*parts, "</svg>\n"])


def _head(height: int, title: str) -> str:
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" role="img">'
        f"<title>{escape(title)}</title>{STYLE}<text class=\"t\" x=\"14\" y=\"24\">{escape(title)}</text>"
    )


def _decades(values: list[float]) -> tuple[int, int]:
    low, high = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)))
    return low, max(high, low + 1)


def _short(value: float) -> str:
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:g} {unit}"
    return f"{value:g}"
