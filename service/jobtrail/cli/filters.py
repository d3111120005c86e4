"""Which jobs: the options of every verb that is about more than one."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated

import typer

from jobtrail.cli.arguments import read_moment
from jobtrail.job.limits import TRACE_PATTERN
from jobtrail.job.status import Status
from jobtrail.store.jobs import Filter

Statuses = Annotated[
    list[Status] | None, typer.Option("--status", help="Any of these; may be repeated, as the next ones.")
]
Tasks = Annotated[list[str] | None, typer.Option("--task", help="Any of these.")]
Queues = Annotated[list[str] | None, typer.Option("--queue", help="Any of these.")]
Tags = Annotated[list[str] | None, typer.Option("--tag", help="All of these.")]
Traces = Annotated[list[str] | None, typer.Option("--trace", help="Trace ids, 32 hexadecimal digits.")]
Since = Annotated[str | None, typer.Option("--since", help="Created since: 30m, 2h, 7d ago, or a time.")]
Until = Annotated[str | None, typer.Option("--until", help="Created before that: written as --since.")]


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


def choose(
    status: Statuses, task: Tasks, queue: Queues, tag: Tags, trace: Traces, since: Since, until: Until
) -> Chosen:
    """Raises BadParameter for a trace id that is none."""
    for each in trace or ():
        if not re.fullmatch(TRACE_PATTERN, each):
            raise typer.BadParameter(f"--trace: {each!r:.60} is not 32 hexadecimal digits in lower case")
    return Chosen(status or (), task or (), queue or (), tag or (), trace or (), since, until)
