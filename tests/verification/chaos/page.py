"""The results as a table in docs/chaos.md; the last ones of each scenario are kept in docs/chaos.jsonl."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from chaos.scenario import Result

DOCS = Path(__file__).parents[3] / "docs"
BEGIN, END = "<!-- table -->", "<!-- /table -->"


def write(result: Result, docs: Path = DOCS) -> None:
    """Raises ValueError when the page has no place for the table."""
    results = docs / "chaos.jsonl"
    kept = {row["name"]: row for row in map(json.loads, results.read_text().splitlines())} if results.exists() else {}
    kept[result.scenario.name] = _row(result)
    results.write_text("".join(json.dumps(row) + "\n" for row in kept.values()))
    page = docs / "chaos.md"
    before, _, rest = page.read_text().partition(BEGIN)
    _, found, after = rest.partition(END)
    if not found:
        raise ValueError(f"{page} lacks {BEGIN} and {END}")
    page.write_text(f"{before}{BEGIN}\n{table(list(kept.values()))}{END}{after}")


def table(rows: list[dict[str, Any]]) -> str:
    head = "| scenario | jobs | faults | must be | told | seed, time |\n|---|---|---|---|---|---|\n"
    return head + "".join(_line(row) for row in rows) + _versions(rows)


def _line(row: dict[str, Any]) -> str:
    """What must be is told of what the scenario is played for and of what is wrong; the rest is counted."""
    musts = [(what, value, must) for what, value, must in row["figures"] if must is not None]
    wrong = [f"**{what}: {value} instead of {must}**" for what, value, must in musts if value != must]
    right = [f"{what}: {value}" for what, value, must in musts if value == must and what in row["shows"]]
    others = f"{len(musts) - len(wrong) - len(right)} others as they must be"
    told = [f"{what}: {value}" for what, value, must in row["figures"] if must is None and what != "acknowledged"]
    cells = [
        f"**{row['name']}**: {row['title']}", f"{row['jobs']:,}", str(row["faults"]),
        "<br>".join([*wrong, *right, others]), "<br>".join(told),
        f"{row['seed']}; {row['seconds']:.0f} s; {row['day']}",
    ]  # fmt: skip
    return f"| {' | '.join(cells)} |\n"


def _versions(rows: list[dict[str, Any]]) -> str:
    told = {", ".join(f"{name} {number}" for name, number in row["versions"].items()) for row in rows}
    return "\n" + "\n".join(f"Played with {each}." for each in sorted(told)) + "\n"


def _row(result: Result) -> dict[str, Any]:
    return {
        "name": result.scenario.name,
        "title": result.scenario.title,
        "shows": list(result.scenario.shows),
        "jobs": next((figure.value for figure in result.figures if figure.what == "acknowledged"), 0),
        "faults": len(result.faults),
        "figures": [[figure.what, figure.value, figure.must] for figure in result.figures],
        "seed": result.seed,
        "seconds": result.seconds,
        "day": datetime.now(UTC).date().isoformat(),
        "versions": result.versions,
    }
