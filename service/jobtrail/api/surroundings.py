"""What is around the jobs: tasks, nodes and the audit questions."""

from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import Response

from jobtrail.api import representation
from jobtrail.api.door import Door
from jobtrail.api.errors import TaskNotFoundError
from jobtrail.api.query import once
from jobtrail.job.errors import Flaw, InvalidInputError, UnknownTaskError
from jobtrail.ops.audit.questions import Answer, Question, ask, question, questions
from jobtrail.ops.nodes import read_nodes


@dataclass(frozen=True)
class TaskRoutes:
    """/tasks."""

    door: Door

    async def list_tasks(self) -> Response:
        """The tasks of this process, by name."""
        services, redaction = self.door.services, self.door.redaction
        items = [representation.of_task(task, services.defaults, redaction) for task in services.catalog]
        return representation.answer({"items": items})

    async def get_task(self, name: str) -> Response:
        """One task: what it does, the JSON Schema of its arguments, and its defaults."""
        services = self.door.services
        try:
            task = services.catalog[name]
        except UnknownTaskError as error:
            raise TaskNotFoundError(error.name, error.near) from None
        return representation.answer(representation.of_task(task, services.defaults, self.door.redaction))


@dataclass(frozen=True)
class NodeRoutes:
    """/nodes."""

    door: Door

    async def list_nodes(self) -> Response:
        """The processes that run jobs: since when, which tasks and queues, how full."""
        items = [representation.of_node(node) for node in await read_nodes(self.door.services)]
        return representation.answer({"items": items})


@dataclass(frozen=True)
class AuditRoutes:
    """/audit."""

    door: Door

    async def list_questions(self) -> Response:
        """What can be asked, with its parameters and its SQL."""
        return representation.answer({"items": [representation.of_question(each) for each in questions().values()]})

    async def ask(self, request: Request, name: str) -> Response:
        """The answer to one question, read only and within a time limit. Parameters are given as `?name=value`."""
        asked = question(name)
        answer = await self._answer(asked, once(request, [each.name for each in asked.parameters]))
        return representation.answer(representation.of_answer(asked.name, answer))

    async def _answer(self, asked: Question, given: dict[str, str]) -> Answer:
        async with self.door.services.session() as session:
            try:
                return await ask(session, asked, given)
            except InvalidInputError as error:
                raise InvalidInputError([Flaw(f"?{flaw.pointer[1:]}", flaw.detail) for flaw in error.flaws]) from None
