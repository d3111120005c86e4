"""BackgroundTasks that survive a restart: every job is one PostgreSQL row that you can watch, retry and audit."""

import importlib
from typing import TYPE_CHECKING, Any

from jobtrail.callers import Caller
from jobtrail.records import AttemptEnd
from jobtrail.task.context import JobContext
from jobtrail.task.job_events import Gap, JobEvent
from jobtrail.task.limit import Limit, Rate
from jobtrail.task.retry import Again, Fail, Retry
from jobtrail.task.task import Task, task

if TYPE_CHECKING:
    from jobtrail.embed.handle import JobHandle
    from jobtrail.embed.jobs import Jobs
    from jobtrail.embed.trail import Jobtrail
    from jobtrail.settings import Settings

__all__ = [
    "Again",
    "AttemptEnd",
    "Caller",
    "Fail",
    "Gap",
    "JobContext",
    "JobEvent",
    "JobHandle",
    "Jobs",
    "Jobtrail",
    "Limit",
    "Rate",
    "Retry",
    "Settings",
    "Task",
    "task",
]

# A module that declares tasks, and a process that runs one, need no web framework and no database.
_LATER = {
    "JobHandle": "jobtrail.embed.handle",
    "Jobs": "jobtrail.embed.jobs",
    "Jobtrail": "jobtrail.embed.trail",
    "Settings": "jobtrail.settings",
}


def __getattr__(name: str) -> Any:
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_LATER[name]), name)
