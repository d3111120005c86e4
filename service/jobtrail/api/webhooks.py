"""/webhooks: subscriptions of receivers to what becomes of jobs. Their deliveries are jobs like all others."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Final

from fastapi import Body, Path
from pydantic import ConfigDict, Field
from starlette.requests import Request
from starlette.responses import Response

from jobtrail import errors
from jobtrail.api import schemas
from jobtrail.api.context import ApiContext
from jobtrail.api.openapi import OF_BODY, OF_DATABASE
from jobtrail.api.representation import answer
from jobtrail.api.route import OPERATE, READ, Row
from jobtrail.api.schemas import AnyStatus
from jobtrail.ops import webhooks
from jobtrail.outbound import MAX_URL
from jobtrail.ranges import MAX_TASK
from jobtrail.records import shown
from jobtrail.status import TERMINAL
from jobtrail.task.submission import Documented

Webhook: Final = schemas.of_record(webhooks.Webhook, "Webhook", statuses=list[AnyStatus])
WebhookList: Final = schemas.list_of(Webhook, "WebhookList", "All of them, by name.")

Name = Annotated[str, Path(pattern=webhooks.NAME_PATTERN)]

MOST_TASKS: Final = 100


class WebhookSecret(Webhook):  # type: ignore[misc, valid-type] # made from the record
    """With its secret where that is new."""

    secret: Annotated[str | None, Field(description="It signs what is sent. Shown this once; null: it was there.")]


class WebhookBody(Documented):
    """Who is told of what. What is left out is the default."""

    model_config = ConfigDict(extra="forbid")

    url: Annotated[
        str, Field(strict=True, max_length=MAX_URL, description="https, at a public address unless settings allow it.")
    ]
    tasks: Annotated[
        list[Annotated[str, Field(strict=True, min_length=1, max_length=MAX_TASK)]],
        Field(max_length=MOST_TASKS, description="Only jobs of these tasks; none: of all."),
    ] = Field(default_factory=list)
    statuses: Annotated[
        list[AnyStatus], Field(min_length=1, max_length=5, description="Each move of a job to one of these is told.")
    ] = Field(default=list[Any](TERMINAL))


class RotationBody(Documented):
    """The whole body may be left out: then the secret is made here."""

    model_config = ConfigDict(extra="forbid")

    secret: Annotated[
        str | None, Field(strict=True, max_length=200, description="`whsec_` and 24 to 64 bytes as base64.")
    ] = None


_EXAMPLES: Final[schemas.Examples] = {
    "failures": {
        "summary": "What fails of two tasks",
        "value": {"url": "https://example.com/hooks", "tasks": ["send_mail", "charge"], "statuses": ["failed"]},
    }
}


def rows(context: ApiContext) -> Sequence[Row]:
    calls = WebhookRoutes(context)
    named = (errors.InvalidInputError, webhooks.WebhookNotFoundError, *OF_DATABASE)
    return [
        Row(READ, "GET", "/webhooks", calls.list_webhooks, 200, WebhookList, "webhooks", "List the webhooks",
            OF_DATABASE),
        Row(READ, "GET", "/webhooks/{name}", calls.get_webhook, 200, Webhook, "webhooks", "Read a webhook", named),
        Row(OPERATE, "PUT", "/webhooks/{name}", calls.put_webhook, 200, WebhookSecret, "webhooks",
            "Make or replace a webhook", (*OF_BODY, *OF_DATABASE), also=((201, "It is new; this has its secret."),)),
        Row(OPERATE, "DELETE", "/webhooks/{name}", calls.delete_webhook, 204, None, "webhooks", "Delete a webhook",
            named),
        Row(OPERATE, "POST", "/webhooks/{name}/rotate", calls.rotate_webhook, 200, WebhookSecret, "webhooks",
            "Give a webhook another secret", (*OF_BODY, *named[1:])),
    ]  # fmt: skip


@dataclass(frozen=True)
class WebhookRoutes:
    """/webhooks."""

    context: ApiContext

    async def list_webhooks(self) -> Response:
        """Who is told of what; never a secret."""
        return answer({"items": await webhooks.read_webhooks(self.context.services)})

    async def get_webhook(self, name: str) -> Response:
        """One webhook. Its deliveries are the jobs with the tag `webhook:NAME`."""
        return answer(await webhooks.read_webhook(self.context.services, name))

    async def put_webhook(
        self, request: Request, name: Name, wanted: Annotated[WebhookBody, Body(openapi_examples=_EXAMPLES)]
    ) -> Response:
        """Makes it, or replaces it as a whole but for its secret. Moves that commit from now on are delivered, each at
        least once, signed as standardwebhooks.com says.
        """
        by = self.context.access.caller(request).name
        found, secret = await webhooks.put(
            self.context.services, name, wanted.url, by=by, tasks=wanted.tasks, statuses=wanted.statuses
        )
        return answer(shown(found) | {"secret": secret}, 201 if secret else 200)

    async def delete_webhook(self, request: Request, name: str) -> Response:
        """Deliveries that are on their way fail at their next attempt."""
        await webhooks.delete(self.context.services, name, by=self.context.access.caller(request).name)
        return Response(status_code=204)

    async def rotate_webhook(self, request: Request, name: str, wanted: RotationBody | None = None) -> Response:
        """The new secret and the one before both sign, until the next rotation: rotate twice to drop one at once."""
        by = self.context.access.caller(request).name
        given = wanted.secret if wanted else None
        found, secret = await webhooks.rotate(self.context.services, name, by=by, secret=given)
        return answer(shown(found) | {"secret": secret})
