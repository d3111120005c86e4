"""What a running attempt really cost, booked to the rates that took its cost from an argument."""

from decimal import Decimal
from typing import Final
from uuid import UUID

from jobtrail.db.direct import Statement
from jobtrail.db.engine import Database
from jobtrail.jobs.fence import FENCE, AttemptRef

_RATES: Final = Statement(f"""
SELECT k, t ->> 'cost'
  FROM unnest(ARRAY[CAST(:id AS uuid)], ARRAY[CAST(:attempt AS int)]) AS u(id, attempt)
  JOIN jobtrail.jobs j ON j.{FENCE.format(row="j.")}
 CROSS JOIN LATERAL ROWS FROM (unnest(j.limit_keys), jsonb_array_elements(j.limit_terms)) AS terms(k, t)
 WHERE t ->> 'per' IS NOT NULL AND CAST(t ->> 'is_estimate' AS boolean)
 ORDER BY k
""")

# What is given back is booked where it was taken, else more than the number would fit into the windows that hold both;
# what is charged on top, now. `started_at` is a moment before the claim took the cost.
_BOOK: Final = Statement(f"""
INSERT INTO jobtrail.rate_spent AS s (key, slice, cost, until)
SELECT CAST(:key AS text), jobtrail.slice_of(CASE WHEN u.more < 0 THEN j.started_at ELSE clock_timestamp() END, r.per),
       u.more, clock_timestamp() + r.per * 1.01 * interval '1 second'
  FROM unnest(ARRAY[CAST(:id AS uuid)], ARRAY[CAST(:attempt AS int)], ARRAY[CAST(:more AS numeric)])
       AS u(id, attempt, more)
  JOIN jobtrail.jobs j ON j.{FENCE.format(row="j.")}
 CROSS JOIN LATERAL (
       SELECT (t ->> 'per')::numeric AS per
         FROM ROWS FROM (unnest(j.limit_keys), jsonb_array_elements(j.limit_terms)) AS terms(k, t) WHERE k = :key) r
    ON CONFLICT (key, slice) DO UPDATE SET cost = s.cost + excluded.cost
""")


async def charge(database: Database, ref: AttemptRef, cost: Decimal, *, before: Decimal | None, node: UUID) -> bool:
    """Book that the attempt costs `cost`, not `before` or what its argument said. Committed when this returns, each
    key by itself. False: its task has no rate with a cost from an argument, or the attempt is no longer this node's.
    """
    fence = {"id": ref.id, "attempt": ref.attempt, "node": node}
    rates = await database.fetch(_RATES, **fence)
    for key, estimate in rates:
        if more := cost - (Decimal(estimate) if before is None else before):
            await database.fetch(_BOOK, key=key, more=more, **fence)
    return bool(rates)
