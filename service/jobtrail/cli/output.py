"""Printing: JSON for programs, tables that fit the terminal for people, plain columns into pipes."""

import json
import shutil
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Final

from pydantic_core import to_json

_STYLES: Final = {
    "running": "cyan",
    "succeeded": "green",
    "failed": "red",
    "cancelled": "yellow",
    "ok": "green",
    "warn": "yellow",
    "fault": "red",
}

_ID: Final = 36
"""Characters of an id: it is copied, so its column stays whole."""


def print_json(document: object) -> None:
    """One document, its values written as the REST API writes them."""
    typer.echo(to_json(document, indent=2).decode())


def print_table(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Into a pipe nothing is cut and nothing coloured, however narrow; a terminal gets what fits."""
    cells = [[cell(value) for value in row] for row in rows]
    if sys.stdout.isatty():
        _print_rich(columns, cells)
    else:
        _print_plain(columns, cells)


def print_fields(fields: Mapping[str, object]) -> None:
    """One line each, what has no value left out; a value of several lines stands under its name."""
    shown = {name: _text(value) for name, value in fields.items() if value not in (None, [], ())}
    width = max((len(name) for name, text in shown.items() if "\n" not in text), default=0)
    for name, text in shown.items():
        if "\n" in text:
            typer.echo(f"{name}:", *text.splitlines(), sep="\n    ")
        else:
            typer.echo(f"{name + ':':<{width + 1}} {text}")


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
    match value:
        case None:
            return ""
        case bool():
            return str(value).lower()
        case datetime():
            return value.astimezone(UTC).isoformat(sep=" ", timespec="seconds").replace("+00:00", "Z")
        case list() | tuple():
            return " ".join(map(str, value))
        case Mapping():
            return json.dumps(value, ensure_ascii=False, default=str)
        case _:
            return str(value)


def _print_plain(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    lines = [[name.upper() for name in columns], *rows]
    widths = [max(len(line[place]) for line in lines) for place in range(len(columns))]
    for line in lines:
        typer.echo("  ".join(f"{text:<{width}}" for text, width in zip(line, widths, strict=True)).rstrip())


def _print_rich(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    # only people wait for it
    from rich.console import Console  # noqa: PLC0415 - into a pipe it is never needed
    from rich.table import Table  # noqa: PLC0415 - the same
    from rich.text import Text  # noqa: PLC0415 - the same

    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in columns:
        table.add_column(name.upper(), overflow="fold", min_width=_ID if name == "id" else None)
    for row in rows:
        table.add_row(*(Text(text, _STYLES.get(text, "")) for text in row))
    Console().print(table)
