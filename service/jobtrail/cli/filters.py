"""Which jobs: the options of every verb that is about more than one."""

import functools
import inspect
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any

import typer

from jobtrail.cli.arguments import read_moment
from jobtrail.job.limits import TRACE_PATTERN
from jobtrail.job.status import Status
from jobtrail.jobs.query import Filter


@dataclass(frozen=True, slots=True)
class Chosen:
    """The options as they were written: since and until may count back from a time that is not known yet."""

    status: Sequence[Status]
    task: Sequence[str]
    queue: Sequence[str]
    tags: Sequence[str]
    trace_id: Sequence[str]
    since: str | None
    until: str | None

    @property
    def is_empty(self) -> bool:
        listed = (self.status, self.task, self.queue, self.tags, self.trace_id)
        return not any(listed) and self.since is None and self.until is None

    def filter(self, now: datetime) -> Filter:
        """Raises BadParameter for a time that cannot be read."""
        return Filter(
            self.status,
            self.task,
            self.queue,
            self.tags,
            self.trace_id,
            None if self.since is None else read_moment("--since", self.since, now),
            None if self.until is None else read_moment("--until", self.until, now),
        )


def with_filters(verb: Callable[..., None]) -> Callable[..., None]:
    """Puts the options in the place of the parameter `chosen`: typer reads them from the signature."""
    own, options = inspect.signature(verb), inspect.signature(choose).parameters

    @functools.wraps(verb)
    def filtered(**given: Any) -> None:
        verb(chosen=choose(**{name: given.pop(name) for name in options}), **given)

    filtered.__signature__ = own.replace(  # type: ignore[attr-defined]
        parameters=[
            each
            for parameter in own.parameters.values()
            for each in (options.values() if parameter.name == "chosen" else (parameter,))
        ]
    )
    return filtered


def choose(
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
) -> Chosen:
    """Raises BadParameter for a trace id that is none."""
    for each in trace or ():
        if not re.fullmatch(TRACE_PATTERN, each):
            raise typer.BadParameter(f"--trace: {each!r:.60} is not 32 hexadecimal digits in lower case")
    return Chosen(status or (), task or (), queue or (), tag or (), trace or (), since, until)
