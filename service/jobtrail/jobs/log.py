"""The log of a job, of all its attempts: the newest lines are kept, within LOG_LINES and LOG_BYTES.

What lies beyond that is trimmed now and then, so a reader cuts for itself. The lines go with their job's row.
"""

import time
from collections.abc import Collection, Sequence
from datetime import timedelta
from typing import Final, NamedTuple
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession

from jobtrail.jobs import query
from jobtrail.jobs.fence import FENCE, AttemptRef
from jobtrail.jobs.services import Services
from jobtrail.ranges import LOG_BYTES, LOG_LINES
from jobtrail.records import LogLine


class NewLine(NamedTuple):
    """`said_at`: by the monotonic clock of this process."""

    held: AttemptRef
    number: int
    said_at: float
    level: str
    logger: str
    message: str


# The fence is asked once for each attempt, not for each of its lines.
_ADD: Final = text(f"""
WITH ours AS MATERIALIZED (
  SELECT u.id, u.attempt FROM unnest(CAST(:id AS uuid[]), CAST(:attempt AS int[])) AS u(id, attempt)
    JOIN jobtrail.jobs j ON j.{FENCE.format(row="j.")})
INSERT INTO jobtrail.log_lines (job_id, attempt, number, at, level, logger, message)
SELECT ours.id, ours.attempt, l.number, statement_timestamp() - l.age, l.level, l.logger, l.message
  FROM unnest(CAST(:line_id AS uuid[]), CAST(:line_attempt AS int[]), CAST(:number AS int[]), CAST(:age AS interval[]),
              CAST(:level AS text[]), CAST(:logger AS text[]), CAST(:message AS text[]))
       AS l(id, attempt, number, age, level, logger, message)
  JOIN ours ON ours.id = l.id AND ours.attempt = l.attempt
ON CONFLICT DO NOTHING
""")

_NEWEST: Final = f"""
SELECT job_id, attempt, number, at, level, logger, message
  FROM (SELECT *, row_number() OVER newest AS place, sum(octet_length(message)) OVER newest AS bytes
          FROM jobtrail.log_lines WHERE job_id = ANY(CAST(:jobs AS uuid[])) {{after}}
        WINDOW newest AS (PARTITION BY job_id ORDER BY attempt DESC, number DESC)) l
 WHERE {{kept}} (place <= {LOG_LINES} AND bytes <= {LOG_BYTES})
"""

_TRIM: Final = text(f"""
DELETE FROM jobtrail.log_lines l USING ({_NEWEST.format(after="", kept="NOT")}) old
 WHERE (l.job_id, l.attempt, l.number) = (old.job_id, old.attempt, old.number)
""")

_READ: Final = text(
    _NEWEST.format(after="AND (attempt, number) > (:attempt, :number)", kept="") + "ORDER BY attempt, number"
)


async def add_lines(connection: AsyncConnection, lines: Sequence[NewLine], *, node: UUID) -> None:
    """Store what attempts say that are still ours, and of the others nothing. The same lines may come again."""
    now = time.monotonic()
    held = list({line.held for line in lines})
    parameters = {
        "node": node,
        "id": [each.id for each in held],
        "attempt": [each.attempt for each in held],
        "line_id": [line.held.id for line in lines],
        "line_attempt": [line.held.attempt for line in lines],
        "age": [timedelta(seconds=now - line.said_at) for line in lines],
        **{name: [getattr(line, name) for line in lines] for name in ("number", "level", "logger", "message")},
    }
    await connection.execute(_ADD, parameters)


async def trim(connection: AsyncConnection, job_ids: Collection[UUID]) -> None:
    """Remove the oldest lines of these jobs that are too many."""
    await connection.execute(_TRIM, {"jobs": list(job_ids)})


async def lines_of(session: AsyncSession, job_id: UUID, *, after: tuple[int, int] = (0, 0)) -> Sequence[LogLine]:
    """Oldest first; only what comes after this attempt and number."""
    parameters = {"jobs": [job_id], "attempt": after[0], "number": after[1]}
    return [LogLine(*row[1:]) for row in await session.execute(_READ, parameters)]


async def read_log(
    services: Services,
    job_id: UUID,
    *,
    attempt: int | None = None,
    after: tuple[int, int] = (0, 0),
    only_of: str | None = None,
) -> Sequence[LogLine]:
    """What is kept of a job's own log, oldest first: of all its attempts or one, after this attempt and number.

    Raises JobNotFoundError, UnavailableError.
    """
    async with services.session() as session:
        await query.get(session, job_id, only_of=only_of)
        found = await lines_of(session, job_id, after=after)
    return [line for line in found if attempt is None or line.attempt == attempt]
