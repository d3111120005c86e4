"""What is asked of the rows after every scenario. Each question counts what must not be there."""

import json
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple
from uuid import UUID

from chaos.world import World


class Answer(NamedTuple):
    what: str
    value: float | str
    must: float | str | None = None


LEDGER = """
CREATE TEMP TABLE ledger (id uuid PRIMARY KEY, n int);
CREATE TEMP VIEW starts AS
SELECT job_id, count(*) FILTER (WHERE to_status = 'running') - count(*) FILTER (WHERE reason = 'released') AS starts
  FROM jobtrail.transitions GROUP BY job_id
"""

LOST = """
SELECT count(*) FROM ledger l WHERE NOT EXISTS (SELECT FROM jobtrail.jobs j WHERE j.id = l.id)
   AND NOT EXISTS (SELECT FROM jobtrail.transitions t WHERE t.job_id = l.id AND t.to_status = 'purged')
"""

NOT_TERMINAL = "SELECT count(*) FROM jobtrail.jobs WHERE status NOT IN ('succeeded', 'failed', 'cancelled')"

REFUSED_AND_STORED = """
SELECT count(*) FROM jobtrail.jobs WHERE (args ->> 'n')::int = ANY($1::int[])
"""

TWICE_STORED = """
SELECT count(*) FROM (SELECT FROM jobtrail.jobs WHERE args ? 'n' GROUP BY args ->> 'n' HAVING count(*) > 1) twice
"""

# Who ended the attempt is known by what it returned or raised; the row says who was to end it.
STALE = """
SELECT count(*) FROM jobtrail.jobs j
 WHERE (j.result ->> 'attempt')::int <> j.attempt
    OR (j.status = 'failed' AND (j.error ->> 'attempt')::int <> j.attempt)
    OR EXISTS (SELECT FROM inside i WHERE i.job = j.id AND i.attempt <> j.attempt)
    OR EXISTS (SELECT FROM jobtrail.transitions f JOIN jobtrail.transitions c
                   ON c.job_id = f.job_id AND c.attempt = f.attempt AND c.to_status = 'running'
                WHERE f.job_id = j.id AND f.from_status = 'running' AND f.node_id <> c.node_id)
"""

# Its own node was refused its end, so somebody else has ended it.
ENDED_BY_OTHERS = """
SELECT count(*) FROM unnest($1::uuid[], $2::int[]) AS refused(job, attempt) WHERE NOT EXISTS (
    SELECT FROM jobtrail.transitions t WHERE t.job_id = refused.job AND t.attempt = refused.attempt
       AND t.from_status = 'running' AND (t.reason = 'rescued' OR t.to_status = 'cancelled'))
"""

INSIDE_DOUBLED = "SELECT count(*) FROM (SELECT FROM inside GROUP BY job HAVING count(*) > 1) doubled"

INSIDE_ALONE = """
SELECT count(*) FROM jobtrail.jobs j WHERE j.task = 'write_inside'
   AND (j.status = 'succeeded') <> EXISTS (SELECT FROM inside i WHERE i.job = j.id)
"""

OUTSIDE_DOUBLED = "SELECT count(*) FROM (SELECT FROM outside GROUP BY job HAVING count(*) > 1) doubled"

OUTSIDE_MISSING = """
SELECT count(*) FROM jobtrail.jobs j WHERE j.task = 'write_outside' AND j.status = 'succeeded'
   AND NOT EXISTS (SELECT FROM outside o WHERE o.job = j.id)
"""

STARTED_TWICE = """
SELECT count(*) FROM jobtrail.jobs j WHERE j.tags @> '{once}'
   AND ((SELECT starts FROM starts s WHERE s.job_id = j.id) > 1
        OR (SELECT count(*) FROM outside o WHERE o.job = j.id) > 1)
"""

HISTORY = """
WITH moves AS (
    SELECT t.*, lag(to_status) OVER life AS before, row_number() OVER life AS number,
           lag(attempt) OVER life AS attempt_before, lead(seq) OVER life IS NULL AS is_last,
           sum((from_status IS NULL OR from_status NOT IN ('pending', 'running'))::int) OVER life AS life
      FROM jobtrail.transitions t WINDOW life AS (PARTITION BY job_id ORDER BY seq)),
ends AS (
    SELECT job_id, life, count(*) AS ends FROM moves
     WHERE to_status IN ('succeeded', 'failed', 'cancelled') GROUP BY job_id, life)
SELECT (SELECT count(*) FROM moves WHERE seq <> number) AS gaps,
       (SELECT count(*) FROM moves WHERE from_status IS DISTINCT FROM before
            OR attempt <> coalesce(attempt_before, 0) + (to_status = 'running')::int
            OR NOT CASE coalesce(from_status, 'none') WHEN 'none' THEN to_status = 'pending'
                   WHEN 'pending' THEN to_status IN ('pending', 'running', 'cancelled')
                   WHEN 'running' THEN to_status IN ('pending', 'succeeded', 'failed', 'cancelled')
                   WHEN 'succeeded' THEN to_status = 'purged' ELSE to_status IN ('pending', 'purged') END) AS illegal,
       (SELECT count(*) FROM ends WHERE ends > 1) AS ended_twice,
       (SELECT count(*) FROM jobtrail.jobs j LEFT JOIN moves m ON m.job_id = j.id AND m.is_last
         WHERE (m.to_status, m.seq, m.attempt) IS DISTINCT FROM (j.status, j.seq, j.attempt))
       + (SELECT count(*) FROM moves m WHERE m.is_last AND m.to_status <> 'purged'
             AND NOT EXISTS (SELECT FROM jobtrail.jobs j WHERE j.id = m.job_id)) AS other_than_row
"""

FOREIGN = "SELECT count(*) FROM jobtrail.transitions WHERE node_id IS NOT NULL AND node_id <> ALL($1::uuid[])"

TOLD = """
SELECT count(*) AS jobs, count(*) FILTER (WHERE status = 'succeeded') AS succeeded,
       count(*) FILTER (WHERE error ->> 'type' = 'lost' AND status = 'failed') AS lost,
       count(*) FILTER (WHERE attempt > 1) AS again,
       (SELECT count(*) FROM jobtrail.transitions WHERE reason = 'rescued') AS rescued
  FROM jobtrail.jobs
"""


async def ask_all(world: World) -> list[Answer]:
    connection = await world.connection()
    await connection.execute(LEDGER)
    await connection.copy_records_to_table("ledger", records=world.ledger.acknowledged)
    refused = list(stale_ends(world))
    history, told = (await world.rows(HISTORY))[0], (await world.rows(TOLD))[0]
    return [
        Answer("acknowledged", len(world.ledger.acknowledged)),
        Answer("of unknown outcome", _told(world.ledger.unknown)),
        Answer("refused", len(world.ledger.refused)),
        Answer("submits that were not answered as they must be", _told(world.ledger.wrong), "0"),
        Answer("refused and stored all the same", await world.value(REFUSED_AND_STORED, world.ledger.refused), 0),
        Answer("acknowledged and lost", await world.value(LOST), 0),
        Answer("not terminal", await world.value(NOT_TERMINAL), 0),
        Answer("requests stored twice", await world.value(TWICE_STORED), 0),
        Answer("stale outcomes recorded", await world.value(STALE), 0),
        Answer("attempts ended by others than a rescue",
               await world.value(ENDED_BY_OTHERS, [job for job, _ in refused], [attempt for _, attempt in refused]), 0),
        Answer("started twice with max_attempts = 1", await world.value(STARTED_TWICE), 0),
        Answer("effects inside doubled", await world.value(INSIDE_DOUBLED), 0),
        Answer("effects inside without success, or success without them", await world.value(INSIDE_ALONE), 0),
        Answer("effects outside doubled", await world.value(OUTSIDE_DOUBLED)),
        Answer("successes without their effect outside", await world.value(OUTSIDE_MISSING), 0),
        Answer("histories with a gap", history["gaps"], 0),
        Answer("illegal moves", history["illegal"], 0),
        Answer("lives with two ends", history["ended_twice"], 0),
        Answer("histories that end other than their row", history["other_than_row"], 0),
        Answer("moves by processes of somebody else", await world.value(FOREIGN, list(nodes_of(world.folder))), 0),
        Answer("jobs / succeeded / failed as lost", f"{told['jobs']} / {told['succeeded']} / {told['lost']}"),
        Answer("rescued / run again / ends refused as stale",
               f"{told['rescued']} / {told['again']} / {len(refused)}"),
    ]  # fmt: skip


def stale_ends(world: World) -> Iterator[tuple[UUID, int]]:
    """The job and the attempt of each end that was offered and refused, by the logs of those who offered it."""
    for entry in _lines(world.folder, "stale: "):
        _, attempt, job = _STALE.split(entry["message"], maxsplit=1)[:3]
        yield UUID(job), int(attempt)


_STALE = re.compile(r"attempt (\d+) of job (\S+)")


def _told(reasons: Counter[str]) -> str:
    why = ", ".join(f"{reason} {number}" for reason, number in reasons.most_common())
    return f"{reasons.total()} ({why})" if why else "0"


def nodes_of(folder: Path, logs: str = "*.log") -> Iterator[UUID]:
    """The nodes that the processes of this folder were, by their own logs."""
    for entry in _lines(folder, "node started", logs):
        yield UUID(entry["node_id"])


def _lines(folder: Path, words: str, logs: str = "*.log") -> Iterator[dict[str, str]]:
    for log in folder.glob(logs):
        for line in log.read_text().splitlines():
            if words in line and line.endswith("}"):  # a killed process may have said half a line
                yield json.loads(line)
