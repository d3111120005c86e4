"""The two shapes of a fenced update: the plain one for every day, and one that steps over locked rows."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple, Protocol, TypeVar
from uuid import UUID

from sqlalchemy import TextClause, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection

from jobtrail.db.errors import Fault, fault_of
from jobtrail.db.tables import of_schema

# `|| ''` keeps the planner from the partial index of running rows, which is short after ANALYZE and long in a storm:
# the primary key is the plan that does not change.
FENCE: Final = "id = u.id AND {row}attempt = u.attempt AND {row}node_id = :node AND {row}status || '' = 'running'"
"""For who writes elsewhere than to the row; `row` is its alias, with a dot, or nothing."""


class _WithId(Protocol):
    @property
    def id(self) -> UUID: ...


Row = TypeVar("Row", bound=_WithId)


class Fenced(NamedTuple):
    """One update in both shapes. Parameters: `node`, the arrays `id` and `attempt`, and those of `arrays`."""

    plain: TextClause
    stepping: TextClause

    def of_schema(self, schema: str) -> "Fenced":
        """For a connection that is not ours, whose statements are sent as they are."""
        return Fenced(*(text(of_schema(each.text, schema)) for each in self))


def fenced(assignments: str, *, arrays: Mapping[str, str], returning: str) -> Fenced:
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
  FROM mine u WHERE j.id = u.id
RETURNING {returning}"""
    return Fenced(text(plain), text(stepping))


async def execute(connection: AsyncConnection, update: Fenced, parameters: Mapping[str, Any]) -> Sequence[Any]:
    """The rows that moved. Where somebody holds a lock longer than the lock timeout, all the others move.

    For a connection that has nothing to lose: where its statements share a transaction, what came before is undone.
    """
    try:
        return await execute_within(connection, update, parameters)
    except DBAPIError as error:
        if fault_of(error) is not Fault.LOCKED:
            raise
    await connection.rollback()
    return (await connection.execute(update.stepping, parameters)).all()


async def execute_within(connection: AsyncConnection, update: Fenced, parameters: Mapping[str, Any]) -> Sequence[Any]:
    """The rows that moved, as part of a transaction that fails with it, should somebody hold a lock for too long."""
    return (await connection.execute(update.plain, parameters)).all()


def in_order(rows: Iterable[Row]) -> list[Row]:
    """As every fenced update locks its rows, or two that meet would wait for each other."""
    return sorted(rows, key=lambda row: row.id)


def keys(rows: Sequence[Any], node: UUID) -> dict[str, Any]:
    """Of rows that are `in_order`."""
    return {"node": node, "id": [row.id for row in rows], "attempt": [row.attempt for row in rows]}
