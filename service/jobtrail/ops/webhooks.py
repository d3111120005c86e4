"""Webhooks: subscriptions of receivers to what becomes of jobs.

`events/delivery` makes the deliveries. The type of an event is `job.` and the status that the job moved to.

The secrets that sign stand in the table as they are, since signing needs them; no record has them. A row that was
written in psql counts as one of ours, and the database makes its secret.
"""

import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Final

from pydantic import Field
from sqlalchemy import BigInteger, Column, Table, Text, bindparam, text

from jobtrail.db.tables import TEXTS, TIME, metadata
from jobtrail.errors import FieldError, InvalidInputError, JobtrailError
from jobtrail.jobs.services import Services
from jobtrail.outbound import key_of, new_secret, signing
from jobtrail.status import TERMINAL, Status
from jobtrail.task.storable import check

log = logging.getLogger(__name__)

NAME_PATTERN: Final = r"^[A-Za-z0-9_][A-Za-z0-9_.:-]{0,49}$"


@dataclass(frozen=True, slots=True)
class Webhook:
    """A URL that is told what becomes of jobs."""

    name: str
    url: str
    tasks: Annotated[Sequence[str], Field(description="Only jobs of these; none: of all tasks.")]
    statuses: Annotated[Sequence[str], Field(description="Each move of a job to one of these is delivered.")]
    created_at: datetime
    created_by: str
    changed_at: datetime
    changed_by: str
    rotated_at: Annotated[datetime | None, Field(description="Since when two secrets sign; null: one does.")]


class WebhookNotFoundError(JobtrailError):
    """No webhook has this name."""

    def __init__(self, name: str) -> None:
        self.name: Final = name
        super().__init__(f"no webhook is named {name!r:.100}; `jobtrail webhooks list` shows them")


TABLE: Final = Table(
    "webhooks",
    metadata,
    Column("name", Text, primary_key=True),
    Column("url", Text, nullable=False),
    Column("tasks", TEXTS, nullable=False, server_default=text("'{}'")),
    Column("statuses", TEXTS, nullable=False, server_default=text("'{succeeded,failed,cancelled}'")),
    Column(
        "secrets",
        TEXTS,
        nullable=False,
        server_default=text(
            "ARRAY['whsec_' || encode(sha256(convert_to(gen_random_uuid()::text || gen_random_uuid()::text, 'UTF8')), "
            "'base64')]"
        ),
    ),
    Column("created_at", TIME, nullable=False, server_default=text("clock_timestamp()")),
    Column("created_by", Text, nullable=False, server_default=text("session_user")),
    Column("changed_at", TIME, nullable=False, server_default=text("clock_timestamp()")),
    Column("changed_by", Text, nullable=False, server_default=text("session_user")),
    Column("rotated_at", TIME),
    Column("after_mark", BigInteger, nullable=False),
    Column("since", Text, nullable=False, server_default=text("pg_current_snapshot()::text")),
    info={"rights": "SELECT, INSERT, UPDATE, DELETE"},
)

_RECORD: Final = ", ".join(Webhook.__dataclass_fields__)

_PUT: Final = text(f"""
INSERT INTO jobtrail.webhooks AS w (name, url, tasks, statuses, secrets, created_by, changed_by)
VALUES (:name, :url, :tasks, :statuses, ARRAY[CAST(:secret AS text)], :actor, :actor)
ON CONFLICT (name) DO UPDATE
   SET url = excluded.url, tasks = excluded.tasks, statuses = excluded.statuses, changed_at = clock_timestamp(),
       changed_by = excluded.changed_by
RETURNING {_RECORD}, secrets[1] = :secret AS is_new
""").bindparams(bindparam("tasks", type_=TEXTS), bindparam("statuses", type_=TEXTS))

_SECRETS: Final = text("SELECT secrets FROM jobtrail.webhooks WHERE name = :name FOR UPDATE")

_ROTATE: Final = text(f"""
UPDATE jobtrail.webhooks SET secrets = :secrets, changed_at = clock_timestamp(), changed_by = :actor,
       rotated_at = CASE WHEN cardinality(:secrets) > 1 THEN clock_timestamp() END
 WHERE name = :name RETURNING {_RECORD}
""").bindparams(bindparam("secrets", type_=TEXTS))

_DELETE: Final = text("DELETE FROM jobtrail.webhooks WHERE name = :name RETURNING name")

_READ: Final = text(f"""
SELECT {_RECORD} FROM jobtrail.webhooks WHERE CAST(:name AS text) IS NULL OR name = :name ORDER BY name
""")


async def put(
    services: Services, name: str, url: str, *, by: str, tasks: Sequence[str] = (), statuses: Sequence[str] = TERMINAL
) -> tuple[Webhook, str | None]:
    """The webhook, made or replaced as a whole, and the secret of a new one, which cannot be read again. What commits
    from then on is delivered. Raises InvalidInputError, UnavailableError.
    """
    flaws = _flaws(name, tasks, statuses)
    if (flaw := services.outbound.flaw_of(url)) is not None:
        flaws.append(FieldError("/url", flaw))
    if flaws:
        raise InvalidInputError(flaws)
    secret = new_secret()
    values = {"name": name, "url": url, "tasks": list(tasks), "statuses": list(statuses)}
    async with services.transaction() as session:
        *found, is_new = (await session.execute(_PUT, values | {"secret": secret, "actor": by})).one()
    log.info("webhook put", extra={"webhook": name, "by": by})
    return Webhook(*found), secret if is_new else None


async def rotate(services: Services, name: str, *, by: str, secret: str | None = None) -> tuple[Webhook, str]:
    """The webhook and its new secret, or the one that is given. The one before signs too, until the next rotation, if
    it can.

    Raises WebhookNotFoundError, InvalidInputError, UnavailableError.
    """
    if secret is not None:
        try:
            key_of(secret)
        except ValueError as error:
            raise InvalidInputError([FieldError("/secret", str(error))]) from None
    secret = secret or new_secret()
    row = None
    if not check(name):
        async with services.transaction() as session:
            before: Sequence[str] = (await session.execute(_SECRETS, {"name": name})).scalar() or ()
            wanted = {"name": name, "secrets": [secret, *signing(before)[:1]], "actor": by}
            row = (await session.execute(_ROTATE, wanted)).one_or_none()
    if row is None:
        raise WebhookNotFoundError(name)
    log.info("secret of a webhook rotated", extra={"webhook": name, "by": by})
    return Webhook(*row), secret


async def delete(services: Services, name: str, *, by: str) -> None:
    """Its deliveries that have not ended fail. Raises WebhookNotFoundError, UnavailableError."""
    gone = None
    if not check(name):
        async with services.transaction() as session:
            gone = (await session.execute(_DELETE, {"name": name})).one_or_none()
    if gone is None:
        raise WebhookNotFoundError(name)
    log.info("webhook deleted", extra={"webhook": name, "by": by})


async def read_webhooks(services: Services) -> Sequence[Webhook]:
    """All of them, by name."""
    async with services.session() as session:
        return [Webhook(*row) for row in await session.execute(_READ, {"name": None})]


async def read_webhook(services: Services, name: str) -> Webhook:
    """Raises WebhookNotFoundError, UnavailableError."""
    found: Sequence[Webhook] = ()
    if not check(name):
        async with services.session() as session:
            found = [Webhook(*row) for row in await session.execute(_READ, {"name": name})]
    if not found:
        raise WebhookNotFoundError(name)
    return found[0]


def _flaws(name: str, tasks: Sequence[str], statuses: Sequence[str]) -> list[FieldError]:
    flaws = []
    if not re.fullmatch(NAME_PATTERN, name):
        flaws.append(FieldError("{name}", "write letters, digits and _ . : -, at most 50 of them"))
    flaws += [FieldError(f"/tasks/{n}", str(flaw.detail)) for n, task in enumerate(tasks) for flaw in check(task)]
    known = [each.value for each in Status]
    if not statuses or not set(statuses) <= set(known):
        flaws.append(FieldError("/statuses", f"name one or more of {', '.join(known)}"))
    return flaws
