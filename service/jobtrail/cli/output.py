"""Printing: JSON for programs, tables that fit the terminal for people, plain columns into pipes."""

import json
import shutil
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Final

import typer
from pydantic_core import to_json

from jobtrail.job.duration import format_duration
from jobtrail.job.record import LogLine

STYLES: Final = {
    "running": "cyan",
    "succeeded": "green",
    "failed": "red",
    "cancelled": "yellow",
    "ok": "green",
    "warn": "yellow",
    "fault": "red",
}

_STYLED: Final = frozenset({"status", "level", "from", "to"})

_FOLDED: Final = 12
"""Characters that a longer text needs at least in each line of its column."""

_ID: Final = 36
"""Characters of an id: it is copied, so its column stays whole."""


def print_json(document: object) -> None:
    """One document, its values written as the REST API writes them."""
    typer.echo(to_json(document, indent=2, timedelta_mode="float", inf_nan_mode="null").decode())


def is_terminal() -> bool:
    return sys.stdout.isatty()


def print_table(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Into a pipe nothing is cut and nothing coloured, however narrow; a terminal gets what fits."""
    cells = [[cell(value) for value in row] for row in rows]
    if not is_terminal():
        _print_plain(columns, cells)
    elif _narrowest(columns, cells) <= shutil.get_terminal_size().columns:
        _print_rich(columns, cells)
    else:
        for place, row in enumerate(rows):
            if place:
                typer.echo()
            print_fields(dict(zip(columns, row, strict=True)))


def print_fields(fields: Mapping[str, object]) -> None:
    """One line each, what has no value left out; a value of several lines stands under its name."""
    shown = {name: _text(value) for name, value in fields.items() if value not in (None, [], ())}
    width = max((len(name) for name, text in shown.items() if "\n" not in text), default=0)
    for name, text in shown.items():
        if "\n" in text:
            typer.echo("\n    ".join([f"{name}:", *text.splitlines()]))
        else:
            typer.echo(f"{name + ':':<{width + 1}} {text}")


def in_a_line(error: Mapping[str, object] | None) -> str | None:
    """The error of an attempt without its traceback. A row that was written by hand may lack any part."""
    if error is None:
        return None
    return ": ".join(str(error[part]) for part in ("type", "message") if error.get(part)) or "an error"


def log_line(line: LogLine) -> str:
    """In the form of the service's own lines, with the attempt; what is below the first stays below it."""
    at = line.at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    message = "\n    ".join(printable(line.message).split("\n"))
    return f"{at}  {line.attempt}  {cell(line.level):<7}  {cell(line.logger)}: {message}"


def cell(value: object) -> str:
    return printable(_plain(value)).replace("\n", "\\n")


def printable(text: str) -> str:
    """Line breaks stay; escape sequences and the like are written out: a terminal would obey them."""
    if text.isprintable():
        return text
    return "".join(
        each if each == "\n" or each.isprintable() else each.encode("unicode_escape").decode() for each in text
    )


def _text(value: object) -> str:
    if isinstance(value, Mapping | list):
        short = json.dumps(value, ensure_ascii=False, default=str)
        fits = len(short) <= shutil.get_terminal_size().columns - 20
        return printable(short if fits else json.dumps(value, ensure_ascii=False, default=str, indent=2))
    return printable(_plain(value))


def _plain(value: object) -> str:
    found = "" if value is None else str(value)
    match value:
        case bool():
            found = found.lower()
        case datetime():
            found = value.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
        case timedelta():
            found = format_duration(value)
        case Decimal():
            found = f"{value.normalize():f}"
        case list() | tuple():
            found = " ".join(map(str, value))
        case Mapping():
            found = json.dumps(value, ensure_ascii=False, default=str)
        case _:
            pass
    return found


def _print_plain(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    lines = [[name.upper() for name in columns], *rows]
    widths = [max(len(line[place]) for line in lines) for place in range(len(columns))]
    for line in lines:
        typer.echo("  ".join(f"{text:<{width}}" for text, width in zip(line, widths, strict=True)).rstrip())


def _narrowest(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> int:
    """The columns of a terminal below which a table would be torn to pieces."""
    needs = [_need(name, [row[place] for row in rows]) for place, name in enumerate(columns)]
    return sum(needs) + 2 * (len(needs) - 1)


def _need(name: str, cells: Sequence[str]) -> int:
    longest = max((len(text) for text in cells), default=0)
    return max(len(name), min(longest, _ID if name == "id" else _FOLDED))


def _print_rich(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    # only people wait for it
    from rich.console import Console  # noqa: PLC0415 - into a pipe it is never needed
    from rich.table import Table  # noqa: PLC0415 - the same
    from rich.text import Text  # noqa: PLC0415 - the same

    table = Table(box=None, pad_edge=False, header_style="bold")
    for place, name in enumerate(columns):
        table.add_column(name.upper(), overflow="fold", min_width=_need(name, [row[place] for row in rows]))
    for row in rows:
        shown = zip(columns, row, strict=True)
        table.add_row(*(Text(text, STYLES.get(text, "") if name in _STYLED else "") for name, text in shown))
    Console().print(table)
