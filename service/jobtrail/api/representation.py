"""Answers: plain dicts, written to JSON in one go since every submit has one; and a caller's view of jobs."""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from pydantic_core import to_json
from starlette.responses import Response

from jobtrail.api.context import ApiContext
from jobtrail.api.query import Part
from jobtrail.callers import Caller
from jobtrail.ranges import DEFAULT_PRIORITY
from jobtrail.records import Job, LogLine, Transition, shown
from jobtrail.redaction import Redaction
from jobtrail.task.context import progress_of

RETRY_AFTER: Final = {"Retry-After": "1"}

_TRACEBACK: Final = re.compile(r'^[^\n]*(?:\(most recent call last\):|File "[^"\n]*", line [0-9])', re.MULTILINE)
"""Its first line; or a later one, where a long text lost its middle."""


_SEEN: Final = ("id", "task", "status", "unique_key", "created_at")
"""The fields that a caller sees of another caller's job, which holds the unique key: no more than that it exists."""

_UNSEEN: Final[Mapping[str, Any]] = {
    "queue": "default", "args": {}, "priority": DEFAULT_PRIORITY, "tags": (), "attempt": 0, "max_attempts": 1,
    "after": (), "created_by": "another caller",
}  # fmt: skip
"""The values of the other fields where null is not allowed; all else is null."""


def answer(content: object, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """JSON with durations in seconds and times as RFC 3339, in UTC since the database's are."""
    return Response(to_json(content, timedelta_mode="float", inf_nan_mode="null"), status, headers, "application/json")


def polling(job: Job) -> Mapping[str, str]:
    """When to look again; nothing for a job that has ended."""
    return {} if job.status.is_terminal else RETRY_AFTER


@dataclass(frozen=True, slots=True)
class View:
    """A caller's view of jobs. `only_of`: there are no jobs but this caller's own; None: it sees all."""

    redaction: Redaction
    tracebacks: bool
    only_of: str | None

    @classmethod
    def of(cls, context: ApiContext, caller: Caller) -> "View":
        return cls(context.redaction, caller.operates, None if caller.sees_all else caller.name)

    def sees(self, job: Job) -> bool:
        """False for the job of another caller that has the unique key of this one's."""
        return self.only_of is None or self.only_of == job.created_by

    def job(self, job: Job) -> dict[str, Any]:
        if not self.sees(job):
            hidden: dict[str, Any] = {name: _UNSEEN.get(name) for name in shown(job) if name not in _SEEN}
            job = replace(job, **hidden | {"trace_id": job.id.hex})
        progress = progress_of(job.progress)
        return shown(job) | {
            "args": self.redaction.of(job.args),
            "error": _error(job.error, traceback=self.tracebacks),
            "progress": None if progress is None else progress.as_json(),
        }

    def listed(self, job: Job, include: Collection[Part]) -> dict[str, Any]:
        """Leaves out the large fields that `include` does not ask for, key and all."""
        found = self.job(job)
        found["error"] = _error(job.error, traceback=self.tracebacks and "traceback" in include)
        return {name: value for name, value in found.items() if name not in ("args", "result") or name in include}

    def transition(self, moved: Transition) -> dict[str, Any]:
        return shown(moved) | {"error": _error(moved.error, traceback=self.tracebacks)}

    def line(self, line: LogLine) -> dict[str, Any]:
        """A line of a job's log, in which a traceback comes last."""
        found = shown(line)
        if not self.tracebacks and (traceback := _TRACEBACK.search(line.message)):
            found["message"] = line.message[: traceback.start()] + "[a traceback, for who may operate]"
        return found


def _error(error: Mapping[str, Any] | None, *, traceback: bool) -> Mapping[str, Any] | None:
    if traceback or not isinstance(error, Mapping):
        return error
    return {name: value for name, value in error.items() if name != "traceback"}
