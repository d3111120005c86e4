"""Deliveries of webhooks: jobs, derived from the feed in the transaction that moves its cursor, so exactly one for each
move that matches, whoever made it; and the task that sends them.

All their jobs are in the queue `jobtrail.webhooks`, and have limits that an operator may override: how many are sent at
once, and how many of these to one host, so that a receiver that does not answer holds up no other.
"""

import hashlib
import json
import random
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import UUID

import httpcore
from sqlalchemy import text

from jobtrail.db.direct import Statement
from jobtrail.db.errors import unavailable
from jobtrail.events.cursors import advancing
from jobtrail.events.feed import MOVED
from jobtrail.events.post import Answer, RefusedReceiverError, Sender
from jobtrail.jobs.insert import insert_rows
from jobtrail.jobs.services import Services
from jobtrail.outbound import host_of, signing
from jobtrail.ranges import DEFAULT_PRIORITY, OWN
from jobtrail.records import NewJob
from jobtrail.status import TERMINAL
from jobtrail.task.context import JobContext
from jobtrail.task.limit import Limit, limited
from jobtrail.task.retry import Again, Fail, Retry
from jobtrail.task.storable import dump
from jobtrail.task.task import Task

QUEUE: Final = "jobtrail.webhooks"
TASK: Final = "jobtrail.webhook"
MAX_ATTEMPTS: Final = 8
RETRY: Final = Retry(base=5, factor=4, max=5 * 3600)
LIMITS: Final = (Limit("jobtrail.webhooks", 8), Limit("jobtrail.webhook:{host}", 2))
TIMEOUT: Final = timedelta(seconds=60)

_ASKING: Final = (429, 503)
"""Statuses whose `Retry-After` is kept to: too many requests, unavailable (RFC 6585, section 4; RFC 9110, 15.6.4)."""

_MARKS: Final = 5
"""Marks in one transaction: one may have thousands of moves, each for several receivers."""

_ROWS: Final = 1000
"""Rows in one INSERT; no more are in memory, however many moves a mark has."""

_MOST_MESSAGE: Final = 2000
_MOST_TYPE: Final = 200
_MOST_HOST: Final = 150
"""Characters: an event is at most 20 kB, and a limit's key can be overridden."""

# In one statement, so that what it passes over was committed before any webhook or callback that it does not see.
# Another node that has the cursor moves it.
_PASS_OVER: Final = Statement("""
WITH receivers AS MATERIALIZED (
  SELECT EXISTS (SELECT FROM jobtrail.webhooks)
      OR EXISTS (SELECT FROM jobtrail.jobs WHERE callback_url IS NOT NULL) AS are_there),
passed AS (
  UPDATE jobtrail.feed_cursors c SET no = m.no
    FROM (SELECT no FROM jobtrail.feed_marks ORDER BY no DESC LIMIT 1) m
   WHERE NOT (SELECT are_there FROM receivers) AND c.no < m.no AND c.name = (
         SELECT name FROM jobtrail.feed_cursors WHERE name = 'webhooks' FOR UPDATE SKIP LOCKED))
SELECT are_there FROM receivers
""")

_FIELDS: Final = (
    "m.job_id, m.seq, m.task, m.attempt, m.from_status, m.to_status, m.at, m.reason, CAST(m.error AS text) AS error, "
    "m.trace_id"
)

# What Jobtrail's own jobs do is delivered to nobody: each delivery would bring another one.
_MATCHES: Final = text(f"""
WITH {MOVED}
SELECT w.name AS webhook, CAST(extract(epoch FROM w.created_at) AS text) AS made, w.url,
       'webhook ' || w.name AS created_by, {_FIELDS}
  FROM moved m JOIN jobtrail.webhooks w
    ON (w.tasks = '{{}}' OR m.task = ANY(w.tasks)) AND m.to_status = ANY(w.statuses)
   AND (w.after_mark < :after
        OR (w.after_mark < :upto AND NOT pg_visible_in_snapshot(m.xact, CAST(w.since AS pg_snapshot))))
 WHERE NOT starts_with(m.task, :own)
UNION ALL
SELECT NULL, NULL, j.callback_url, j.created_by, {_FIELDS}
  FROM moved m JOIN jobtrail.jobs j ON j.id = m.job_id
 WHERE j.callback_url IS NOT NULL AND m.to_status = ANY(CAST(:ends AS text[]))
   AND NOT starts_with(m.task, :own)
""")


async def advance(services: Services) -> bool:
    """Make the deliveries of what is new in the feed; whether there may be more. Raises UnavailableError."""
    database = services.database
    with unavailable():
        [(are_there,)] = await database.fetch(_PASS_OVER)
    if not are_there:
        return False
    async with advancing(database, "webhooks", most=_MARKS) as step:
        if step is None:
            return False
        connection, made = await step.session.connection(), 0
        matches = await step.session.stream(_MATCHES, {**step.bounds, "own": OWN, "ends": list(TERMINAL)})
        async for some in matches.mappings().partitions(_ROWS):
            made += len(await insert_rows(connection, [_delivery(services, each) for each in some]))
    if made:
        services.meters.tasks[TASK].accepted += made
        services.has_limited.set()
        database.hints.send(QUEUE)
    return step.may_be_more


def _delivery(services: Services, match: Mapping[Any, Any]) -> NewJob:
    """One job for each move and receiver, by its id."""
    webhook, url = match["webhook"], match["url"]
    digest = hashlib.md5(f"{match['job_id']}:{match['seq']}:{webhook or ''}".encode(), usedforsecurity=False)
    args = {"event": event_of(match), "host": host_of(url)[:_MOST_HOST]}
    args |= {"url": url} if webhook is None else {"webhook": webhook, "made": match["made"]}
    keys = limited(LIMITS, args.__getitem__)
    return NewJob(
        id=UUID(bytes=digest.digest()),
        task=TASK,
        args=args,
        args_json=dump(args),
        trace_id=match["trace_id"],
        created_by=match["created_by"],
        queue=QUEUE,
        priority=DEFAULT_PRIORITY,
        max_attempts=MAX_ATTEMPTS,
        tags=["callback" if webhook is None else f"webhook:{webhook}"],
        ttl=services.defaults.ttl,
        ttl_failed=services.defaults.ttl_failed,
        timeout=TIMEOUT,
        run_at=None,
        limit_keys=keys.keys,
        limit_terms=dump(keys.terms),
    )


def event_of(match: Mapping[Any, Any]) -> dict[str, Any]:
    """The body that a receiver gets."""
    at: datetime = match["at"]
    error = None
    if match["error"] is not None:
        found = json.loads(match["error"])
        error = {
            "type": str(found.get("type"))[:_MOST_TYPE],
            "message": str(found.get("message"))[:_MOST_MESSAGE],
            "attempt": found.get("attempt"),
        }
    data = {name: match[name] for name in ("seq", "task", "attempt", "from_status", "to_status", "reason", "trace_id")}
    moved_at = at.astimezone(UTC).isoformat().replace("+00:00", "Z")
    data |= {"job_id": str(match["job_id"]), "at": moved_at, "error": error}
    return {"type": f"job.{match['to_status']}", "timestamp": moved_at, "data": data}


_RECEIVER: Final = Statement("""
SELECT url, secrets FROM jobtrail.webhooks WHERE name = :name AND CAST(extract(epoch FROM created_at) AS text) = :made
""")


class ReceiverError(Again):
    """The receiver did not answer with a status of 200 to 299. `after`: seconds that it asks to be left alone for."""


def delivery_task(services: Services, sender: Sender) -> Task[..., Any]:
    """The task `jobtrail.webhook` of a node, for `Catalog.own`."""

    async def deliver(
        context: JobContext,
        event: dict[str, Any],
        host: str,  # noqa: ARG001 - a limit's key has it
        webhook: str | None = None,
        made: str | None = None,
        url: str | None = None,
    ) -> dict[str, int]:
        """Sends what happened to a job to a receiver; `webhook-id` is the id of this job, the same in each attempt."""
        secrets: Sequence[str] = sender.outbound.secrets
        if webhook is not None:
            url, secrets = await _receiver(services, webhook, made)
        elif not secrets:
            raise ReceiverError(message="JOBTRAIL_WEBHOOK_SECRET is not set on this node, so it cannot sign callbacks")
        body, now = dump(event).encode(), int(time.time())
        try:
            answer = await sender.post(url or "", body, message_id=str(context.job_id), timestamp=now, secrets=secrets)
        except RefusedReceiverError as error:
            raise Fail(str(error), type="webhook-refused") from None
        except TimeoutError:
            raise ReceiverError(message=f"the receiver did not answer within {sender.seconds:g} s") from None
        except httpcore.ProtocolError:  # its words may be those of the receiver
            raise ReceiverError(message="the receiver does not speak HTTP, or broke off") from None
        if answer.status == 410:  # noqa: PLR2004 - Gone
            raise Fail("the receiver answered 410: it wants no more", type="webhook-gone")
        if not 200 <= answer.status < 300:  # noqa: PLR2004 - successful (RFC 9110, section 15.3)
            raise ReceiverError(_pause(answer, context.attempt), f"the receiver answered {answer.status}")
        return {"status": answer.status}

    deliver.__qualname__ = deliver.__name__  # no node searches a module for it, as for tasks of a host
    return Task(deliver, name=TASK, queue=QUEUE, max_attempts=MAX_ATTEMPTS, retry=RETRY, limits=LIMITS)


async def _receiver(services: Services, webhook: str, made: str | None) -> tuple[str, Sequence[str]]:
    """Its URL, and those of its secrets that can sign."""
    rows = await services.database.fetch(_RECEIVER, name=webhook, made=made)
    if not rows:
        raise Fail(f"the webhook {webhook} was deleted", type="webhook-deleted")
    url, secrets = rows[0]
    if not (able := signing(secrets)):
        told = f"no secret of the webhook {webhook} can sign: `jobtrail webhooks rotate {webhook}` makes one"
        raise ReceiverError(message=told)
    return url, able


def _pause(answer: Answer, attempt: int) -> float | None:
    """Seconds that the receiver asks for, at most the longest pause of the Retry, and never less than that one waits.
    None: as the Retry says.
    """
    if answer.status not in _ASKING or answer.retry_after is None:
        return None
    return max(min(answer.retry_after, RETRY.max), RETRY.delay(attempt, random.random()))  # noqa: S311 - no secret
