"""What happens to a job while one looks, as it is told: in the app, on the command line and to clients."""

from dataclasses import dataclass
from datetime import datetime
from typing import Literal
from uuid import UUID

from jobtrail.records import LogLine, Transition
from jobtrail.task.context import Progress


@dataclass(frozen=True, slots=True)
class JobEvent:
    """Something that has happened to a job. `id`, of transitions alone: a reader goes on after it."""

    kind: Literal["transition", "progress", "log"]
    job_id: UUID
    attempt: int
    data: Transition | Progress | LogLine
    id: str | None = None


@dataclass(frozen=True, slots=True)
class Gap:
    """The feed does not go on where a reader was, but with what was committed after `since`; of a job's own events,
    None: with the first one.
    """

    reason: str
    since: datetime | None
