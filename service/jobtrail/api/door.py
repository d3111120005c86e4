"""What the routes need, handed in by whoever builds the app."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol
from uuid import UUID

from jobtrail.lifecycle.desk import Desk


class Launch(Protocol):
    """Hand a committed job to the node of this process. It returns at once and never raises."""

    def __call__(self, job_id: UUID, task: str, queue: str) -> None: ...


@dataclass(frozen=True, slots=True)
class Door:
    """`accepting` is False while the process shuts down. `max_body` in bytes."""

    desk: Desk
    launch: Launch
    accepting: Callable[[], bool]
    max_body: int
