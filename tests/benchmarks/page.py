"""The figures as a table."""

import statistics
from collections.abc import Sequence

from benchmarks.lab import Figure


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
