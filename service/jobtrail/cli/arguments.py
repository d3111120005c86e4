"""What is written behind a verb: key=value, JSON, durations, moments. What cannot be read is a usage error."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import typer

from jobtrail.job import storable
from jobtrail.job.duration import parse_duration
from jobtrail.job.errors import InvalidArgumentsError, InvalidInputError, NotJsonError
from jobtrail.job.task import Task


def read_pairs(pairs: Sequence[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for pair in pairs:
        name, separator, value = pair.partition("=")
        if not separator or not name:
            raise typer.BadParameter(f"{pair!r:.80} is not KEY=VALUE")
        if name in found:
            raise typer.BadParameter(f"{name!r:.80} is given twice")
        found[name] = value
    return found


def merge_args(task: Task[..., Any], written: str | None, texts: Mapping[str, str]) -> dict[str, Any]:
    """The JSON args of both ways to write them.

    A text that is JSON is taken as JSON, unless the parameter fits only the text: `code=007` and `name=5` may be texts.
    """
    args = _read_object(written)
    if both := args.keys() & texts.keys():
        raise typer.BadParameter(f"{min(both)!r:.80} is given twice: in --args and as KEY=VALUE")
    args |= {name: _json_or_text(text) for name, text in texts.items()}
    for name in _misfits(task, args) & texts.keys():
        if name not in _misfits(task, args | {name: texts[name]}):
            args[name] = texts[name]
    return args


def read_duration(option: str, text: str, word: str | None = None) -> timedelta:
    """`word` is what may be written instead, for the message."""
    try:
        return parse_duration(text)
    except ValueError as error:
        raise typer.BadParameter(f"{option}: {error}{f', or {word}' if word else ''}") from None


def read_moment(option: str, text: str, now: datetime) -> datetime:
    """A duration before `now`, or an RFC 3339 time; without a zone it is UTC."""
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        try:
            return now - parse_duration(text)
        except (ValueError, OverflowError):
            raise typer.BadParameter(f"{option}: {text!r:.60} is no time: write 30m, 2h, 7d or 2030-01-31") from None
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def _read_object(written: str | None) -> dict[str, Any]:
    if written is None:
        return {}
    try:
        found = storable.parse(written.encode())
    except (NotJsonError, InvalidInputError) as error:
        raise typer.BadParameter(f"--args: {error}") from None
    if not isinstance(found, dict):
        raise typer.BadParameter("--args: write a JSON object, such as '{\"n\": 5}'")
    return found


def _json_or_text(text: str) -> object:
    try:
        return storable.parse(text.encode())
    except (NotJsonError, InvalidInputError):
        return text


def _misfits(task: Task[..., Any], args: Mapping[str, Any]) -> set[str]:
    """The names whose values do not fit the signature."""
    try:
        task.signature.check(args)
    except InvalidArgumentsError as error:
        return {
            flaw.pointer.split("/")[1].replace("~1", "/").replace("~0", "~") for flaw in error.flaws if flaw.pointer
        }
    return set()
