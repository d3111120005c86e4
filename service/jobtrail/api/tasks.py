"""The tasks of this process, over HTTP."""

from dataclasses import dataclass

from starlette.responses import Response

from jobtrail.api import representation
from jobtrail.api.context import ApiContext
from jobtrail.api.problem_types import TaskNotFoundError
from jobtrail.errors import UnknownTaskError


@dataclass(frozen=True)
class TaskRoutes:
    """/tasks."""

    context: ApiContext

    async def list_tasks(self) -> Response:
        """The tasks of this process, by name."""
        services, redaction = self.context.services, self.context.redaction
        items = [representation.of_task(task, services.defaults, redaction) for task in services.catalog]
        return representation.answer({"items": items})

    async def get_task(self, name: str) -> Response:
        """One task: what it does, the JSON Schema of its arguments, and its defaults."""
        services = self.context.services
        try:
            task = services.catalog[name]
        except UnknownTaskError as error:
            raise TaskNotFoundError(error.name, error.near) from None
        return representation.answer(representation.of_task(task, services.defaults, self.context.redaction))
