"""The fence: node and attempt together, by which a node writes only to the running rows that it really holds."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from operator import attrgetter
from typing import Any, Final, NamedTuple
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncConnection

from jobtrail.db.direct import Statement, arrays, fetch_on
from jobtrail.db.errors import FAILURES, Fault, fault_of

# A plan is made once for a connection, and must be right for the sizes to come. So the text leaves one: each row by its
# primary key. `|| ''` hides the status from the planner, and with it the partial indexes, which are short after ANALYZE
# and long in a storm. `= ANY(ARRAY[…])` is a condition for an index, but none for a hash or merge join, which would
# read the whole table. It is so in every statement that changes rows by their ids.
FENCE: Final = """id = ANY(ARRAY[u.id]) AND {row}attempt = u.attempt AND {row}node_id = :node
   AND {row}status || '' = 'running'"""
"""`row` is the alias of the job's row, with a dot, or nothing."""


Fetch = Callable[..., Awaitable[Sequence[Any]]]
"""As `Database.fetch`: each of its statements is a transaction."""


class Fenced(NamedTuple):
    """One update in two shapes: the plain one for every day, and one that steps over locked rows."""

    plain: Statement
    stepping: Statement
    arrays: Sequence[str]

    def values(self, rows: Sequence[Any], node: UUID, **more: Any) -> dict[str, Any]:
        """From rows with the attributes `id`, `attempt` and those of the arrays. In the order of their ids, in which
        every fenced update locks its rows: else two that meet would wait for each other.
        """
        ordered = sorted(rows, key=_ID) if len(rows) > 1 else rows
        return {"node": node, **more, **arrays({name: [getattr(row, name) for row in ordered] for name in self.arrays})}

    async def execute(self, fetch: Fetch, values: Mapping[str, Any]) -> Sequence[Any]:
        """The rows that moved. Where one is locked for longer than the lock timeout, all the others move."""
        try:
            return await fetch(self.plain, **values)
        except FAILURES as error:
            if fault_of(error) is not Fault.LOCKED:
                raise
        return await fetch(self.stepping, **values)

    async def execute_on(self, connection: AsyncConnection, values: Mapping[str, Any]) -> Sequence[Any]:
        """The same on a connection that has nothing to lose: where its statements share a transaction, what came before
        is undone.
        """

        async def fetch(statement: Statement, **values: Any) -> Sequence[Any]:
            if statement is self.stepping:
                await connection.rollback()
            return await fetch_on(connection, statement, **values)

        return await self.execute(fetch, values)


_ID: Final = attrgetter("id")


def fenced(assignments: str, *, returning: str, **arrays: str) -> Fenced:
    """`assignments` speak of the row as `j` and of the caller's arrays (name → SQL type) as `u`."""
    types = {"id": "uuid", "attempt": "int", **arrays}
    rows = "unnest({}) AS u({})".format(
        ", ".join(f"CAST(:{name} AS {kind}[])" for name, kind in types.items()), ", ".join(types)
    )
    plain = f"""
UPDATE jobtrail.jobs j SET {assignments}
  FROM {rows}
 WHERE j.{FENCE.format(row="j.")}
RETURNING {returning}"""
    stepping = f"""
WITH mine AS MATERIALIZED (
  SELECT u.* FROM {rows} CROSS JOIN LATERAL (
    SELECT FROM jobtrail.jobs WHERE {FENCE.format(row="")} LIMIT 1 FOR NO KEY UPDATE SKIP LOCKED) held)
UPDATE jobtrail.jobs j SET {assignments}
  FROM mine u WHERE j.id = ANY(ARRAY[u.id])
RETURNING {returning}"""
    return Fenced(Statement(plain), Statement(stepping), tuple(types))


class AttemptRef(NamedTuple):
    """An attempt that this process runs."""

    id: UUID
    attempt: int
