"""Pauses of queues and tasks: listed, made, ended."""

from dataclasses import dataclass
from typing import Annotated

from fastapi import Body
from pydantic import ConfigDict, Field
from starlette.requests import Request
from starlette.responses import Response

from jobtrail.api import representation
from jobtrail.api.context import ApiContext
from jobtrail.api.examples import PAUSES
from jobtrail.api.problem_types import TaskNotFoundError
from jobtrail.api.query import Reason
from jobtrail.errors import UnknownTaskError
from jobtrail.ops.pauses import pause, read_pauses, resume
from jobtrail.records import PauseKind
from jobtrail.task.submission import Documented


class PauseBody(Documented):
    """Why; the whole body may be left out."""

    model_config = ConfigDict(extra="forbid")

    reason: Annotated[Reason | None, Field(description="For whoever wonders why nothing runs.")] = None


@dataclass(frozen=True)
class PauseRoutes:
    """/pauses."""

    context: ApiContext

    async def list_pauses(self) -> Response:
        """What is paused: by whom, since when and why."""
        return representation.answer({"items": await read_pauses(self.context.services)})

    async def put_pause(
        self,
        request: Request,
        kind: PauseKind,
        name: str,
        wanted: Annotated[PauseBody | None, Body(openapi_examples=PAUSES)] = None,
    ) -> Response:
        """No more jobs of the queue or the task are started, on any node; those that run go on.

        What is paused already stays as it is, with who did it first and why.
        """
        reason = (wanted.reason or None) if wanted else None
        try:
            found = await pause(
                self.context.services, kind, name, by=self.context.access.caller(request).name, reason=reason
            )
        except UnknownTaskError as error:
            raise TaskNotFoundError(error.name, error.near) from None
        return representation.answer(found)

    async def delete_pause(self, request: Request, kind: PauseKind, name: str) -> Response:
        """Its jobs are started again, within about a second. The same for what was not paused."""
        try:
            await resume(self.context.services, kind, name, by=self.context.access.caller(request).name)
        except UnknownTaskError as error:
            raise TaskNotFoundError(error.name, error.near) from None
        return Response(status_code=204)
