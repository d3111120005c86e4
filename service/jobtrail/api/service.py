"""The calls about the service itself: tasks, nodes, pauses, audit questions, access keys, types of problems, health."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Decimal
from http import HTTPStatus
from typing import Annotated, Any, Final
from uuid import UUID

from fastapi import Body
from starlette.requests import Request
from starlette.responses import Response

from jobtrail import errors
from jobtrail.api import bodies, links, schemas
from jobtrail.api.context import ApiContext
from jobtrail.api.problem_types import BY_SLUG, ProblemNotFoundError, ProblemType, TaskNotFoundError
from jobtrail.api.query import once
from jobtrail.api.representation import answer
from jobtrail.db import migrate
from jobtrail.jobs.services import PATIENCE, missing_rights
from jobtrail.ops import keys
from jobtrail.ops.audit import ask, question, questions
from jobtrail.ops.nodes import read_nodes
from jobtrail.ops.pauses import pause, read_pauses, resume
from jobtrail.records import PauseKind, shown
from jobtrail.task.submission import seconds
from jobtrail.task.task import Task

_UNUSABLE: Final = {
    migrate.Schema.MISSING: "the database has no Jobtrail schema: run `jobtrail migrate`",
    migrate.Schema.OLDER: "the database has an older revision of the schema: run `jobtrail migrate`",
    migrate.Schema.FOREIGN: "the schema holds tables of another application: choose another name with JOBTRAIL_SCHEMA",
}


@dataclass(frozen=True)
class ServiceRoutes:
    """All calls but those about jobs."""

    context: ApiContext

    async def list_tasks(self) -> Response:
        """The tasks of this process, by name."""
        return answer({"items": [self._task(task) for task in self.context.services.catalog]})

    async def get_task(self, name: str) -> Response:
        """One task: what it does, the JSON Schema of its arguments, and its defaults."""
        with _task_not_found():
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

    async def list_nodes(self) -> Response:
        """The processes that run jobs: since when, which tasks and queues, how full."""
        return answer({"items": [shown(node) for node in await read_nodes(self.context.services)]})

    async def list_pauses(self) -> Response:
        """What is paused: by whom, since when and why."""
        return answer({"items": await read_pauses(self.context.services)})

    async def put_pause(
        self,
        request: Request,
        kind: PauseKind,
        name: str,
        wanted: Annotated[bodies.PauseBody | None, Body(openapi_examples=bodies.PAUSES)] = None,
    ) -> Response:
        """No more jobs of the queue or the task are started, on any node; those that run go on.

        What is paused already stays as it is, with who did it first and why.
        """
        reason, by = (wanted.reason or None) if wanted else None, self.context.access.caller(request).name
        with _task_not_found():
            return answer(await pause(self.context.services, kind, name, by=by, reason=reason))

    async def delete_pause(self, request: Request, kind: PauseKind, name: str) -> Response:
        """Its jobs are started again, within about a second. The same for what was not paused."""
        with _task_not_found():
            await resume(self.context.services, kind, name, by=self.context.access.caller(request).name)
        return Response(status_code=204)

    async def list_questions(self) -> Response:
        """What can be asked, with its parameters and its SQL."""
        names = schemas.Question.model_fields
        items = [{name: getattr(each, name) for name in names} for each in questions().values()]
        return answer({"items": items})

    async def ask(self, request: Request, name: str) -> Response:
        """The answer to one question, read only and within a time limit. Parameters are given as `?name=value`."""
        asked = question(name)
        given = once(request, [each.name for each in asked.parameters])
        async with self.context.services.session() as session:
            try:
                found = await ask(session, asked, given)
            except errors.InvalidInputError as error:
                flaws = [errors.FieldError(f"?{flaw.pointer[1:]}", flaw.detail) for flaw in error.flaws]
                raise errors.InvalidInputError(flaws) from None
        items = [dict(zip(found.columns, map(json_value, row), strict=True)) for row in found.rows]
        return answer({"name": name, "columns": found.columns, "items": items})

    async def list_keys(self) -> Response:
        """Every key that was ever made, and who made and revoked it; never a key itself."""
        return answer({"items": await keys.list_keys(self.context.services)})

    async def create_key(
        self, request: Request, wanted: Annotated[bodies.KeyBody, Body(openapi_examples=bodies.KEYS)]
    ) -> Response:
        """The answer holds the key, this once. A caller gives no scope that it lacks, and no end later than its own."""
        caller = self.context.access.caller(request)
        for scope in wanted.scopes:  # else who may operate could make itself a key to submit with
            if not caller.may((scope,)):
                raise errors.ForbiddenError(caller.name, (scope,))
        record, text = await keys.create_key(
            self.context.services,
            wanted.name,
            wanted.scopes,
            by=caller.name,
            expires_at=wanted.expires_at,
            lives_for=seconds(wanted.expires_in),
            no_longer=seconds(caller.lives_for),
        )
        return answer({**shown(record), "key": text}, 201)

    async def revoke_key(self, request: Request, key_id: UUID) -> Response:
        """It is refused everywhere within a second; its row stays. The same for one that is revoked already."""
        await keys.revoke_key(self.context.services, key_id, by=self.context.access.caller(request).name)
        return Response(status_code=204)

    async def list_problems(self, request: Request) -> Response:
        """Every kind of problem that this service knows."""
        return answer({"items": [_explained(request, each) for each in BY_SLUG.values()]})

    async def get_problem(self, request: Request, slug: str) -> Response:
        """One kind of problem: what it means and what to do about it."""
        if slug not in BY_SLUG:
            raise ProblemNotFoundError(slug)
        return answer(_explained(request, BY_SLUG[slug]))

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


@contextmanager
def _task_not_found() -> Iterator[None]:
    """A task that the path names, and not the body."""
    try:
        yield
    except errors.UnknownTaskError as error:
        raise TaskNotFoundError(error.name, error.near) from None


def json_value(value: Any) -> Any:
    """Numbers of any precision become JSON numbers."""
    if not isinstance(value, Decimal):
        return value
    return int(value) if value.is_finite() and value == value.to_integral_value() else float(value)


def _explained(request: Request, kind: ProblemType) -> dict[str, Any]:
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
