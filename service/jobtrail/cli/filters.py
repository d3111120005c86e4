"""The options that choose many jobs."""

import functools
import inspect
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from jobtrail.durations import parse_duration
from jobtrail.jobs.query import Filter
from jobtrail.limits import TRACE_PATTERN
from jobtrail.status import Status


@dataclass(frozen=True, slots=True)
class Filters:
    """The options as they were written: since and until may count back from the database's time, not known yet."""

    status: Sequence[Status] = ()
    task: Sequence[str] = ()
    queue: Sequence[str] = ()
    tags: Sequence[str] = ()
    trace_id: Sequence[str] = ()
    since: str | None = None
    until: str | None = None

    def at(self, now: datetime) -> Filter:
        """Raises BadParameter for a time that cannot be read."""
        return Filter(
            self.status,
            self.task,
            self.queue,
            self.tags,
            self.trace_id,
            _moment("--since", self.since, now),
            _moment("--until", self.until, now),
        )


def with_filters(verb: Callable[..., None]) -> Callable[..., None]:
    """Puts the options in the place of the parameter `filters`: typer reads them from the signature."""
    own, options = inspect.signature(verb), inspect.signature(_filters).parameters

    @functools.wraps(verb)
    def filtered(**given: Any) -> None:
        verb(filters=_filters(**{name: given.pop(name) for name in options}), **given)

    filtered.__signature__ = own.replace(  # type: ignore[attr-defined]
        parameters=[
            each
            for parameter in own.parameters.values()
            for each in (options.values() if parameter.name == "filters" else (parameter,))
        ]
    )
    return filtered


def _filters(
    *,
    status: Annotated[
        list[Status] | None, typer.Option(help="Any of these; may be repeated, as the next ones.")
    ] = None,
    task: Annotated[list[str] | None, typer.Option(help="Any of these.")] = None,
    queue: Annotated[list[str] | None, typer.Option(help="Any of these.")] = None,
    tag: Annotated[list[str] | None, typer.Option(help="All of these.")] = None,
    trace: Annotated[list[str] | None, typer.Option(help="Trace ids, 32 hexadecimal digits.")] = None,
    since: Annotated[str | None, typer.Option(help="Created since: 30m, 2h, 7d ago, or a time.")] = None,
    until: Annotated[str | None, typer.Option(help="Created before that: written as --since.")] = None,
) -> Filters:
    for each in trace or ():
        if not re.fullmatch(TRACE_PATTERN, each):
            raise typer.BadParameter(f"--trace: {each!r:.60} is not 32 hexadecimal digits in lower case")
    return Filters(status or (), task or (), queue or (), tag or (), trace or (), since, until)


def _moment(option: str, text: str | None, now: datetime) -> datetime | None:
    """A duration before `now`, or an RFC 3339 time; without a zone it is UTC."""
    if text is None:
        return None
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        try:
            return now - parse_duration(text)
        except (ValueError, OverflowError):
            raise typer.BadParameter(f"{option}: {text!r:.60} is no time: write 30m, 2h, 7d or 2030-01-31") from None
    return found if found.tzinfo else found.replace(tzinfo=UTC)
