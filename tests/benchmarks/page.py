"""The figures as a table, and into docs/benchmarks.md; what grows also as small pictures."""

import statistics
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.lab import TOP, Figure

DOCS = TOP / "docs"
WIDTH, HEIGHT, LEFT, BOTTOM, UP = 480, 220, 70, 190, 160


def write(name: str, figures: Sequence[Figure], how: str, docs: Path = DOCS) -> None:
    """Replace the section of a measure; the others stay as they are. `how` they were measured stands below."""
    curves = {each.curve: [point for point in figures if point.curve == each.curve] for each in figures if each.curve}
    folder = docs / "pictures" / "benchmarks"
    folder.mkdir(parents=True, exist_ok=True)
    shown = ""
    for title, points in curves.items():
        file = folder / f"{title.replace(' ', '-').lower()}.svg"
        file.write_text(picture(title, points))
        shown += f"\n![{title}, by finished rows]({file.relative_to(docs)})\n"
    replace(name, f"{table(figures)}\n{datetime.now(UTC).date()}, {how}\n{shown}", docs)


def replace(name: str, text: str, docs: Path = DOCS) -> None:
    page = docs / "benchmarks.md"
    before, begin, rest = page.read_text().partition(f"<!-- {name} -->\n")
    _, end, after = rest.partition(f"<!-- /{name} -->")
    assert begin, f"{page} has no place for {name}"
    assert end, f"{page} has no place for {name}"
    page.write_text(f"{before}{begin}{text}{end}{after}")


def table(figures: Sequence[Figure]) -> str:
    head = "| what | Jobtrail | beside | ratio |\n|---|---|---|---|\n"
    return head + "".join(line(each) for each in figures)


def line(figure: Figure) -> str:
    """Medians, with the least and the most of the rounds."""
    beside = f"{figure.beside}: {spread(figure.theirs, figure.unit)}" if figure.theirs else figure.beside
    ratio = "" if figure.ratio is None else number(figure.ratio)
    return f"| {figure.what} | {spread(figure.ours, figure.unit)} | {beside} | {ratio} |\n"


def spread(values: Sequence[float], unit: str) -> str:
    around = f" ({number(min(values))} to {number(max(values))})" if len(values) > 1 else ""
    return f"{number(statistics.median(values))}{' ' * (unit[:1] not in ('', '/'))}{unit}{around}"


def number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def picture(title: str, points: Sequence[Figure]) -> str:
    """A line through the medians, from that of the empty table on, and what the rounds were between."""
    values = [(0.0, points[0].theirs), *((point.x, point.ours) for point in points)]
    top = max(max(each) for _, each in values) * 1.1
    step = (WIDTH - LEFT - 40) / (len(values) - 1)

    def y(value: float) -> float:
        return round(BOTTOM - value / top * UP, 1)

    parts, line = [], []
    for place, (x, each) in enumerate(values):
        at = round(LEFT + 10 + place * step, 1)
        line.append(f"{at},{y(statistics.median(each))}")
        parts.append(f'<line x1="{at}" x2="{at}" y1="{y(min(each))}" y2="{y(max(each))}" class="range"/>')
        parts.append(f'<text x="{at}" y="{BOTTOM + 18}" text-anchor="middle">{x:,.0f}</text>')
    for value in (0, top / 2.2, top / 1.1):
        parts.append(f'<line x1="{LEFT}" x2="{WIDTH - 20}" y1="{y(value)}" y2="{y(value)}" class="grid"/>')
        parts.append(f'<text x="{LEFT - 8}" y="{y(value) + 4}" text-anchor="end">{number(value)}</text>')
    body = "\n".join(parts)
    return f"""\
<svg viewBox="0 0 {WIDTH} {HEIGHT}" xmlns="http://www.w3.org/2000/svg">
<style>
text {{ font: 12px ui-sans-serif, system-ui, sans-serif; fill: #57606a; }}
.grid {{ stroke: #d0d7de; }} .range {{ stroke: #0969da; stroke-width: 6; stroke-opacity: 0.3; }}
polyline {{ fill: none; stroke: #0969da; stroke-width: 2; }}
</style>
<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>
<text x="{LEFT}" y="16">{title} ({points[0].unit}), by finished rows</text>
{body}
<polyline points="{" ".join(line)}"/>
</svg>
"""
