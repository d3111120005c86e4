"""The calls about the service itself: tasks, types of problems, health."""

from collections.abc import Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response

from jobtrail import errors
from jobtrail.api import links, problems, schemas
from jobtrail.api.context import ApiContext
from jobtrail.api.openapi import OF_DATABASE
from jobtrail.api.representation import answer
from jobtrail.api.route import NOTHING, SEE, Row
from jobtrail.db import migrate
from jobtrail.jobs.services import PATIENCE, missing_rights
from jobtrail.task.task import Task

_UNUSABLE: Final = {
    migrate.Schema.MISSING: "the database has no Jobtrail schema: run `jobtrail migrate`",
    migrate.Schema.OLDER: "the database has an older revision of the schema: run `jobtrail migrate`",
    migrate.Schema.FOREIGN: "the schema holds tables of another application: choose another name with JOBTRAIL_SCHEMA",
}


def rows_of_tasks(context: ApiContext) -> Sequence[Row]:
    calls = ServiceRoutes(context)
    unknown = (problems.TaskNotFoundError, errors.InvalidInputError)
    return [
        Row(SEE, "GET", "/tasks", calls.list_tasks, 200, schemas.TaskList, "tasks", "List the tasks"),
        Row(SEE, "GET", "/tasks/{name}", calls.get_task, 200, schemas.Task, "tasks", "Read a task", unknown),
    ]


def rows_of_problems(context: ApiContext) -> Sequence[Row]:
    calls = ServiceRoutes(context)
    return [
        Row(NOTHING, "GET", "/problems", calls.list_problems, 200, schemas.ProblemKindList, "problems",
            "List the kinds of problems"),
        Row(NOTHING, "GET", "/problems/{slug}", calls.get_problem, 200, schemas.ProblemKind, "problems",
            "Explain a kind of problem", (problems.ProblemNotFoundError, errors.InvalidInputError)),
    ]  # fmt: skip


def rows_of_health(context: ApiContext) -> Sequence[Row]:
    calls = ServiceRoutes(context)
    return [
        Row(NOTHING, "GET", "/health", calls.health, 200, schemas.Health, "health", "Ready?", OF_DATABASE),
        Row(NOTHING, "GET", "/health/live", calls.live, 200, schemas.Health, "health", "Does the process answer?"),
        Row(NOTHING, "GET", "/health/ready", calls.ready, 200, schemas.Health, "health", "Can it do its work?",
            OF_DATABASE),
    ]  # fmt: skip


@dataclass(frozen=True)
class ServiceRoutes:
    """/tasks, /problems and /health."""

    context: ApiContext

    async def list_tasks(self) -> Response:
        """The tasks of this process, by name."""
        return answer({"items": [self._task(task) for task in self.context.services.catalog]})

    async def get_task(self, name: str) -> Response:
        """One task: what it does, the JSON Schema of its arguments, and its defaults."""
        with problems.task_in_path():
            return answer(self._task(self.context.services.catalog[name]))

    def _task(self, task: Task[..., Any]) -> dict[str, Any]:
        service = self.context.services.defaults
        return {
            "name": task.name,
            "description": task.description,
            "runs_in": task.runs_in,
            "args": self.context.redaction.of_schema(task.signature.json_schema),
            "defaults": {
                "queue": task.queue,
                "priority": task.priority,
                "max_attempts": task.max_attempts,
                "timeout": task.timeout,
                "ttl": task.ttl if task.has_ttl else service.ttl,
                "ttl_failed": task.ttl if task.has_ttl else service.ttl_failed,
            },
        }

    async def list_problems(self, request: Request) -> Response:
        """Every kind of problem that this service knows."""
        return answer({"items": [_explained(request, each) for each in problems.BY_SLUG.values()]})

    async def get_problem(self, request: Request, slug: str) -> Response:
        """One kind of problem: what it means and what to do about it."""
        if slug not in problems.BY_SLUG:
            raise problems.ProblemNotFoundError(slug)
        return answer(_explained(request, problems.BY_SLUG[slug]))

    async def live(self) -> Response:
        """The process answers. The database is not asked: a restart would not mend it."""
        return answer({"status": "ok", "checks": {"process": "ok"}})

    async def ready(self) -> Response:
        """Jobs can be submitted: the database answers, its schema is usable, the process is not shutting down."""
        if not self.context.accepting():
            raise errors.UnavailableError("draining: this process is shutting down")
        if (obstacle := await self._obstacle()) is not None:
            raise errors.UnavailableError(obstacle)
        return answer({"status": "ok", "checks": {"process": "ok", "database": "ok", "schema": "ok"}})

    async def health(self) -> Response:
        """The same as ready, for whoever knows only one address."""
        return await self.ready()

    async def _obstacle(self) -> str | None:
        """Why no job could be accepted and run. All of it is asked each time: it is a few look-ups in the catalog."""
        try:
            async with self.context.services.session(PATIENCE) as session:
                nature = await migrate.nature(session)
                if not nature.is_writable:
                    return "the database is read-only for now"
                return (
                    nature.misfit
                    or await missing_rights(self.context.services, session)
                    or _UNUSABLE.get(await migrate.state(session))
                )
        except TimeoutError as error:
            raise errors.UnavailableError(f"the database did not answer within {PATIENCE:g} s") from error
        except errors.UnavailableError:
            raise
        except Exception as error:
            raise errors.UnavailableError(f"the database refuses: {type(error).__name__}") from error


def _explained(request: Request, kind: problems.ProblemType) -> dict[str, Any]:
    what = {"type": links.path(request, links.PROBLEM, slug=kind.slug), "status": kind.status, "title": kind.title}
    example = {
        **what,
        "detail": "What exactly was wrong with this request.",
        "instance": "/the/path/that/was/called",
        "trace_id": "0af7651916cd43dd8448eb211c80319c",
    }
    if kind.status == HTTPStatus.UNPROCESSABLE_ENTITY:
        example["errors"] = [{"pointer": "/args/n", "detail": "What is wrong there."}]
    return {**what, "meaning": kind.meaning, "example": example}
