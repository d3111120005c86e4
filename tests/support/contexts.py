"""A JobContext without a node."""

import logging
from typing import Any
from uuid import UUID

from jobtrail.ids import new_job_id
from jobtrail.task.context import JobContext, Progress


class Untied:
    """Keeps what is reported; has no database to submit to."""

    def __init__(self) -> None:
        self.cancelled = False
        self.reported: list[Progress] = []

    def report(self, progress: Progress) -> None:
        self.reported.append(progress)

    async def submit(self, *_: object) -> UUID:
        raise AssertionError

    async def session(self) -> Any:
        raise AssertionError

    async def charge(self, *_: object) -> None:
        raise AssertionError


def context_of(task: str = "a task", *, attempt: int = 1, ties: Any = None) -> JobContext:
    job_id = new_job_id()
    return JobContext(
        job_id=job_id,
        attempt=attempt,
        trace_id=job_id.hex,
        task=task,
        log=logging.getLogger("test"),
        runtime=ties or Untied(),
    )
