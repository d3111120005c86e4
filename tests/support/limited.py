"""A task with limits, for nodes that are processes, and how many of its jobs ran at once."""

import asyncio
from typing import Final

from jobtrail import Limit, task

PEAK: Final = """
SELECT coalesce(max(at_once), 0) FROM (
  SELECT sum(change) OVER (ORDER BY at, change) AS at_once FROM (
    SELECT t.at, CASE WHEN t.to_status = 'running' THEN 1 ELSE -1 END AS change
      FROM jobtrail.transitions t JOIN jobtrail.jobs j ON j.id = t.job_id
     WHERE (t.to_status = 'running' OR t.from_status = 'running')
       AND $1 IN (SELECT unnest(j.limit_keys || j.unique_key))) moves) counted
"""
"""The most jobs of a limit or unique key that ran at once: a start is told after it was decided, an end before it
counts.
"""


@task(max_attempts=20, retry=None, limits=[Limit("tenant:{tenant}", 3), Limit("every tenant", 7)])
async def limited(tenant: int) -> int:
    await asyncio.sleep(0.05)
    return tenant
