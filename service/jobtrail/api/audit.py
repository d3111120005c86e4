"""The audit questions, over HTTP."""

from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import Response

from jobtrail.api import representation
from jobtrail.api.context import ApiContext
from jobtrail.api.query import once
from jobtrail.errors import FieldError, InvalidInputError
from jobtrail.ops.audit import Answer, Question, ask, question, questions


@dataclass(frozen=True)
class AuditRoutes:
    """/audit."""

    context: ApiContext

    async def list_questions(self) -> Response:
        """What can be asked, with its parameters and its SQL."""
        return representation.answer({"items": [representation.of_question(each) for each in questions().values()]})

    async def ask(self, request: Request, name: str) -> Response:
        """The answer to one question, read only and within a time limit. Parameters are given as `?name=value`."""
        asked = question(name)
        answer = await self._answer(asked, once(request, [each.name for each in asked.parameters]))
        return representation.answer(representation.of_answer(asked.name, answer))

    async def _answer(self, asked: Question, given: dict[str, str]) -> Answer:
        async with self.context.services.session() as session:
            try:
                return await ask(session, asked, given)
            except InvalidInputError as error:
                raise InvalidInputError(
                    [FieldError(f"?{flaw.pointer[1:]}", flaw.detail) for flaw in error.flaws]
                ) from None
