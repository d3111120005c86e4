"""How records look outside. Plain dicts, written to JSON in one go: they are on the way of every submit."""

from collections.abc import Collection, Mapping
from dataclasses import replace
from decimal import Decimal
from typing import Any, Final

from pydantic_core import to_json
from starlette.responses import Response

from jobtrail.api.query import Part
from jobtrail.api.view import View
from jobtrail.job.progress import progress_of
from jobtrail.job.record import Job, LogLine, NodeRecord, Pause, Transition
from jobtrail.job.redaction import Redaction
from jobtrail.job.task import Task
from jobtrail.jobs.bulk import Action, Bulk
from jobtrail.jobs.services import Defaults
from jobtrail.ops.audit.questions import Answer, Question

JSON: Final = "application/json"

RETRY_AFTER: Final = {"Retry-After": "1"}


def answer(content: object, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """JSON with durations in seconds and times as RFC 3339, in UTC since the database's are."""
    return Response(to_json(content, timedelta_mode="float", inf_nan_mode="null"), status, headers, JSON)


def polling(job: Job) -> Mapping[str, str]:
    """When to look again; nothing for a job that has ended."""
    return {} if job.status.is_terminal else RETRY_AFTER


def of_job(job: Job, view: View) -> dict[str, Any]:
    return {
        "id": job.id,
        "task": job.task,
        "queue": job.queue,
        "args": view.redaction.of(job.args),
        "status": job.status,
        "result": job.result,
        "error": view.error(job.error),
        "trace_id": job.trace_id,
        "priority": job.priority,
        "tags": job.tags,
        "attempt": job.attempt,
        "max_attempts": job.max_attempts,
        "timeout": job.timeout,
        "progress": None if (progress := progress_of(job.progress)) is None else progress.as_json(),
        "run_at": job.run_at,
        "created_at": job.created_at,
        "started_at": job.started_at,
        "finished_at": job.finished_at,
        "ttl": job.ttl,
        "expires_at": job.expires_at,
        "cancel_requested_at": job.cancel_requested_at,
        "cancel_reason": job.cancel_reason,
        "created_by": job.created_by,
        "node_id": job.node_id,
    }


def of_listed_job(job: Job, include: Collection[Part], view: View) -> dict[str, Any]:
    """What may be large is left out, key and all, unless asked for."""
    found = of_job(job, replace(view, tracebacks=view.tracebacks and "traceback" in include))
    for part in ("args", "result"):
        if part not in include:
            del found[part]
    return found


def of_transition(moved: Transition, view: View) -> dict[str, Any]:
    return {
        "seq": moved.seq,
        "attempt": moved.attempt,
        "from_status": moved.from_status,
        "to_status": moved.to_status,
        "at": moved.at,
        "actor": moved.actor,
        "node_id": moved.node_id,
        "reason": moved.reason,
        "error": view.error(moved.error),
        "trace_id": moved.trace_id,
        "task": moved.task,
    }


def of_line(line: LogLine, view: View) -> dict[str, Any]:
    return {
        "attempt": line.attempt,
        "number": line.number,
        "at": line.at,
        "level": line.level,
        "logger": line.logger,
        "message": view.message(line.message),
    }


def of_bulk(action: Action, done: Bulk, *, dry_run: bool) -> dict[str, Any]:
    return {
        "action": action,
        "dry_run": dry_run,
        "matched": done.matched,
        "changed": done.changed,
        "remaining": done.remaining,
    }


def of_node(node: NodeRecord) -> dict[str, Any]:
    return {
        "id": node.id,
        "host": node.host,
        "pid": node.pid,
        "version": node.version,
        "queues": node.queues,
        "tasks": node.tasks,
        "slots": node.slots,
        "running": node.running,
        "left_behind": node.left_behind,
        "stale_ends": node.stale_ends,
        "started_at": node.started_at,
        "heartbeat_at": node.heartbeat_at,
    }


def of_pause(pause: Pause) -> dict[str, Any]:
    return {
        "kind": pause.kind,
        "name": pause.name,
        "paused_at": pause.paused_at,
        "paused_by": pause.paused_by,
        "reason": pause.reason,
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
    return {
        "name": question.name,
        "title": question.title,
        "note": question.note,
        "parameters": [
            {"name": each.name, "default": each.default, "description": each.description}
            for each in question.parameters
        ],
        "sql": question.sql,
    }


def of_answer(name: str, answer: Answer) -> dict[str, Any]:
    """Numbers of any precision become JSON numbers."""
    rows = [[_number(value) if isinstance(value, Decimal) else value for value in row] for row in answer.rows]
    items = [dict(zip(answer.columns, row, strict=True)) for row in rows]
    return {"name": name, "columns": answer.columns, "items": items}


def _number(value: Decimal) -> float | int:
    return int(value) if value.is_finite() and value == value.to_integral_value() else float(value)
