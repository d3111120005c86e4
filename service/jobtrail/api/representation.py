"""Answers from records: plain dicts, written to JSON in one go since every submit has one."""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any, Final

from pydantic_core import to_json
from starlette.requests import Request
from starlette.responses import Response

from jobtrail.api.context import ApiContext
from jobtrail.api.query import Part
from jobtrail.jobs.bulk import Action, Bulk
from jobtrail.jobs.services import Defaults
from jobtrail.ops.audit import Answer, Question
from jobtrail.records import Job, LogLine, Transition, shown
from jobtrail.redaction import NOTHING, Redaction
from jobtrail.task.context import progress_of
from jobtrail.task.task import Task

JSON: Final = "application/json"

RETRY_AFTER: Final = {"Retry-After": "1"}

_TRACEBACK: Final = re.compile(r'^[^\n]*(?:\(most recent call last\):|File "[^"\n]*", line [0-9])', re.MULTILINE)
"""Its first line; or a later one, where a long text lost its middle."""

_WITHHELD: Final = "[a traceback, for who may operate]"


def answer(content: object, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """JSON with durations in seconds and times as RFC 3339, in UTC since the database's are."""
    return Response(to_json(content, timedelta_mode="float", inf_nan_mode="null"), status, headers, JSON)


def polling(job: Job) -> Mapping[str, str]:
    """When to look again; nothing for a job that has ended."""
    return {} if job.status.is_terminal else RETRY_AFTER


@dataclass(frozen=True, slots=True)
class View:
    """A caller's view of jobs. `only_of`: there are no jobs but this caller's own; None: it sees all."""

    redaction: Redaction
    tracebacks: bool
    only_of: str | None = None

    @classmethod
    def of(cls, context: ApiContext, request: Request) -> "View":
        caller = context.access.caller(request)
        return cls(context.redaction, caller.operates, None if caller.sees_all else caller.name)

    def error(self, error: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
        if self.tracebacks or not isinstance(error, Mapping) or "traceback" not in error:
            return error
        return {name: value for name, value in error.items() if name != "traceback"}

    def message(self, said: str) -> str:
        """A line of a job's log, in which a traceback comes last."""
        if self.tracebacks or (found := _TRACEBACK.search(said)) is None:
            return said
        return said[: found.start()] + _WITHHELD


WHOLE: Final = View(NOTHING, tracebacks=True)
"""Everything, for who sits at the database."""


def of_job(job: Job, view: View) -> dict[str, Any]:
    found = shown(job)
    found["args"] = view.redaction.of(job.args)
    found["error"] = view.error(job.error)
    found["progress"] = None if (progress := progress_of(job.progress)) is None else progress.as_json()
    return found


def of_listed_job(job: Job, include: Collection[Part], view: View) -> dict[str, Any]:
    """Leaves out the large fields that `include` does not ask for, key and all."""
    found = of_job(job, replace(view, tracebacks=view.tracebacks and "traceback" in include))
    for part in ("args", "result"):
        if part not in include:
            del found[part]
    return found


def of_transition(moved: Transition, view: View) -> dict[str, Any]:
    return shown(moved) | {"error": view.error(moved.error)}


def of_line(line: LogLine, view: View) -> dict[str, Any]:
    return shown(line) | {"message": view.message(line.message)}


def of_bulk(action: Action, done: Bulk, *, dry_run: bool) -> dict[str, Any]:
    return {
        "action": action,
        "dry_run": dry_run,
        "matched": done.matched,
        "changed": done.changed,
        "remaining": done.remaining,
    }


def of_task(task: Task[..., Any], service: Defaults, redaction: Redaction) -> dict[str, Any]:
    """`defaults` is what a job gets that says nothing itself."""
    return {
        "name": task.name,
        "description": task.description,
        "runs_in": task.runs_in,
        "args": redaction.of_schema(task.signature.json_schema),
        "defaults": {
            "queue": task.queue,
            "priority": task.priority,
            "max_attempts": task.max_attempts,
            "timeout": task.timeout,
            "ttl": task.ttl if task.has_ttl else service.ttl,
            "ttl_failed": task.ttl if task.has_ttl else service.ttl_failed,
        },
    }


def of_question(question: Question) -> dict[str, Any]:
    return {name: getattr(question, name) for name in ("name", "title", "note", "parameters", "sql")}


def of_answer(name: str, answer: Answer) -> dict[str, Any]:
    """Numbers of any precision become JSON numbers."""
    rows = [[_number(value) if isinstance(value, Decimal) else value for value in row] for row in answer.rows]
    items = [dict(zip(answer.columns, row, strict=True)) for row in rows]
    return {"name": name, "columns": answer.columns, "items": items}


def _number(value: Decimal) -> float | int:
    return int(value) if value.is_finite() and value == value.to_integral_value() else float(value)
