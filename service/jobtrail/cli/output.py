"""Printing: JSON for programs, tables that fit the terminal for people, plain columns into pipes."""

import json
import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, Final

import typer
from pydantic_core import to_json

from jobtrail.durations import format_duration
from jobtrail.records import Job, LogLine, shown
from jobtrail.task.context import progress_of

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


def answer(document: object, text: str, *, as_json: bool) -> None:
    """One document for programs, or one line for people."""
    if as_json:
        print_json(document)
    else:
        typer.echo(text)


def answer_records(records: Sequence[Any], columns: Mapping[str, str], *, none: str, as_json: bool) -> None:
    """One document with all of them; or a table, by its heads and the fields below them; or the line `none`."""
    if as_json:
        print_json({"items": [document(each) for each in records]})
    elif records:
        print_table(list(columns), [[getattr(each, name) for name in columns.values()] for each in records])
    else:
        typer.echo(none)


def document(record: Any, *without: str) -> dict[str, Any]:
    """A record as the REST API writes it, `without` some of its fields."""
    found = {name: value for name, value in shown(record).items() if name not in without}
    if isinstance(record, Job):
        progress = progress_of(record.progress)
        found["progress"] = progress and progress.as_json()
    return found


def print_json(document: object) -> None:
    typer.echo(to_json(document, indent=2, timedelta_mode="float", inf_nan_mode="null").decode())


def is_terminal() -> bool:
    return sys.stdout.isatty()


def can_redraw() -> bool:
    """Whether a line that was printed can be changed."""
    return is_terminal() and os.environ.get("TERM") not in (None, "", "dumb")


def print_table(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Into a pipe nothing is cut and nothing coloured, however narrow; a terminal gets what fits."""
    cells = [[cell(value) for value in row] for row in rows]
    longest = [max(map(len, column)) for column in zip(columns, *cells, strict=True)]
    if not is_terminal():
        for line in ([name.upper() for name in columns], *cells):
            typer.echo("  ".join(map(str.ljust, line, longest)).rstrip())
        return
    most = [max(len(name), _ID if name == "id" else _FOLDED) for name in columns]
    needs = list(map(min, longest, most))
    if sum(needs) + 2 * (len(needs) - 1) <= shutil.get_terminal_size().columns:
        _print_rich(columns, needs, cells)
    else:  # a table would be torn to pieces
        for number, row in enumerate(rows):
            if number:
                typer.echo()
            print_fields(dict(zip(columns, row, strict=True)))


def _print_rich(columns: Sequence[str], needs: Sequence[int], rows: Sequence[Sequence[str]]) -> None:
    from rich.console import Console  # noqa: PLC0415 - only people wait for it, a pipe does not
    from rich.table import Table  # noqa: PLC0415 - the same
    from rich.text import Text  # noqa: PLC0415 - the same

    table = Table(box=None, pad_edge=False, header_style="bold")
    for name, need in zip(columns, needs, strict=True):
        table.add_column(name.upper(), overflow="fold", min_width=need)
    for row in rows:
        named = zip(columns, row, strict=True)
        table.add_row(*(Text(text, STYLES.get(text, "") if name in _STYLED else "") for name, text in named))
    Console().print(table)


def print_fields(fields: Mapping[str, object]) -> None:
    """One line each, without those that have no value; a value of several lines stands under its name."""
    most = shutil.get_terminal_size().columns - 20
    texts = {name: _text(value, most) for name, value in fields.items() if value not in (None, [], ())}
    width = max((len(name) for name, text in texts.items() if "\n" not in text), default=0)
    for name, text in texts.items():
        if "\n" in text:
            typer.echo("\n    ".join([f"{name}:", *text.splitlines()]))
        else:
            typer.echo(f"{name + ':':<{width + 1}} {text}")


def cell(value: object) -> str:
    """In one line."""
    text = printable(" ".join(map(str, value))) if isinstance(value, list | tuple) else _text(value)
    return text.replace("\n", "\\n")


def _text(value: object, most: int = sys.maxsize) -> str:
    """`most`: characters of a JSON text beyond which it is written in several lines."""
    match value:
        case None:
            found = ""
        case bool():
            found = str(value).lower()
        case datetime():
            found = _utc(value, "seconds")
        case timedelta():
            found = format_duration(value)
        case Decimal():
            found = f"{value.normalize():f}"
        case Mapping() | list() | tuple():
            found = json.dumps(value, ensure_ascii=False, default=str)
            if len(found) > most:
                found = json.dumps(value, ensure_ascii=False, default=str, indent=2)
        case _:
            found = str(value)
    return printable(found)


def _utc(at: datetime, precision: str) -> str:
    return at.astimezone(UTC).isoformat(timespec=precision).replace("+00:00", "Z")


def printable(text: str) -> str:
    """Line breaks stay; escape sequences and the like are written out: a terminal would obey them."""
    return "".join(
        each if each == "\n" or each.isprintable() else each.encode("unicode_escape").decode() for each in text
    )


def error_line(error: Mapping[str, object] | None) -> str | None:
    """The error of an attempt without its traceback. A row that was written by hand may lack any part."""
    if error is None:
        return None
    return ": ".join(str(error[part]) for part in ("type", "message") if error.get(part)) or "an error"


def log_line(line: LogLine) -> str:
    """In the form of the service's own lines, with the attempt; the lines below the first are indented."""
    message = printable(line.message).replace("\n", "\n    ")
    return f"{_utc(line.at, 'milliseconds')}  {line.attempt}  {cell(line.level):<7}  {cell(line.logger)}: {message}"
