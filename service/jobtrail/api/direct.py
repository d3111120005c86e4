"""The short way to an endpoint, for the calls that submit jobs."""

from typing import Any

from fastapi import BackgroundTasks
from fastapi.exceptions import RequestValidationError
from pydantic import TypeAdapter, ValidationError
from starlette.requests import Request
from starlette.responses import Response

from jobtrail.api.route import Answer, ProblemRoute


class DirectRoute(ProblemRoute):
    """Calls an endpoint that wants only request, body and background tasks without FastAPI's solver of dependencies,
    which takes longer than storing a job.

    For routes that are added to an app itself: a router that is included brings dependencies, a guard perhaps, that
    could not be seen here.
    """

    def _proceed(self) -> Answer:
        needs, endpoint = self.dependant, self.endpoint
        of_request, of_background = needs.request_param_name, needs.background_tasks_param_name
        others = (needs.dependencies, needs.path_params, needs.query_params, needs.header_params, needs.cookie_params)
        if any(others) or len(needs.body_params) != 1 or of_request is None or of_background is None:
            return super()._proceed()
        of_body = needs.body_params[0].name
        annotation: Any = needs.body_params[0].field_info.annotation
        body: TypeAdapter[object] = TypeAdapter(annotation)

        async def proceed(request: Request) -> Response:
            background = BackgroundTasks()
            wanted = _validated(body, await request.json())
            response: Response = await endpoint(**{of_request: request, of_body: wanted, of_background: background})
            response.background = background
            return response

        return proceed


def _validated(body: TypeAdapter[object], value: object) -> object:
    try:
        return body.validate_python(value)
    except ValidationError as error:
        found = error.errors(include_url=False, include_context=False, include_input=False)
        raise RequestValidationError([{**each, "loc": ("body", *each["loc"])} for each in found]) from None
