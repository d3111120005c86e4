"""The feed: every committed transition once, in one order that is the same for every reader, whoever wrote it.

A mark numbers a snapshot of the database, taken by any process at any moment. The transitions of mark n, its delta, are
those that its snapshot sees and that of mark n - 1 does not (PostgreSQL, "Transaction ID and Snapshot Information
Functions"). So nothing comes late and nothing waits for a transaction that is open, but the transitions of that one.
Transitions of one job are in the order of `seq`: the next one is written after the one before has committed.
"""

import json
import re
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final, NamedTuple, Self
from uuid import UUID

from sqlalchemy import text

from jobtrail.db.direct import Statement
from jobtrail.db.engine import Database
from jobtrail.db.errors import unavailable
from jobtrail.ranges import OWN
from jobtrail.records import Transition

PAGE: Final = 1000
"""Transitions that are read at once."""

LONGEST: Final = 600.0
"""Seconds that something derived may take."""

MOST_MARKS: Final = 20
"""Marks that are passed at once."""


class Place(NamedTuple):
    """A place in the feed: after the transition number `k` of the mark `no`, from 0, or after all of them: END."""

    no: int
    tag: str
    k: int

    def __str__(self) -> str:
        return f"{self.no}-{self.tag}-{self.k}"

    @property
    def after(self) -> tuple[int, int]:
        """The mark, and the number in it, of what comes next."""
        return (self.no + 1, 0) if self.k == END else (self.no, self.k + 1)

    @classmethod
    def read(cls, said: str) -> Self | None:
        """None for what is no place."""
        found = _PLACE.fullmatch(said)
        return cls(int(found[1]), found[2], int(found[3])) if found else None


_PLACE: Final = re.compile(r"([1-9]\d{0,17})-([0-9a-f]{8})-(0|[1-9]\d{0,8})", re.ASCII)


END: Final = 999_999_999
"""Beyond any number of a mark's transitions."""


class Mark(NamedTuple):
    no: int
    tag: str
    at: datetime

    @property
    def end(self) -> Place:
        """After all of its transitions."""
        return Place(self.no, self.tag, END)


@dataclass(frozen=True, slots=True)
class Event:
    """A transition in its place. `queue`, `tags` and `created_by` are the job's now; a purged one has only the last.
    `written`: as bytes, for all who read it.
    """

    place: Place
    transition: Transition
    queue: str | None
    tags: Sequence[str]
    created_by: str | None
    written: dict[bool, bytes] = field(default_factory=dict, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which transitions: the values of a field are alternatives, the fields add up; empty means any. `tags`: all of
    them. `only_of`: of jobs that this caller submitted. Of tasks of Jobtrail's own only those that are named.
    """

    task: frozenset[str] = frozenset()
    queue: frozenset[str] = frozenset()
    status: frozenset[str] = frozenset()
    tags: frozenset[str] = frozenset()
    only_of: str | None = None

    def has(self, event: Event) -> bool:
        moved = event.transition
        return (
            (moved.task in self.task if self.task else not moved.task.startswith(OWN))
            and (not self.status or moved.to_status in self.status)
            and (not self.queue or event.queue in self.queue)
            and (not self.tags or self.tags.issubset(event.tags))
            and (self.only_of is None or event.created_by == self.only_of)
        )


# Ids of transactions begin anew where a dump is restored, and go back where a backup is: then what is older is left
# out. Above the snapshot there are only rows of such a past. The last transaction by `ORDER BY … LIMIT 1`, since
# EXISTS was planned as a scan of the whole table. Where another process makes the same mark, nothing is made.
_MARK: Final = Statement("""
WITH last AS MATERIALIZED (SELECT * FROM jobtrail.feed_marks ORDER BY no DESC LIMIT 1),
now AS MATERIALIZED (
  SELECT pg_current_snapshot() AS snapshot, CAST(system_identifier AS text) AS system FROM pg_control_system()),
wanted AS MATERIALIZED (
  SELECT last.no + 1 AS no, now.snapshot, now.system, found.is_restored, last.since
    FROM last CROSS JOIN now CROSS JOIN LATERAL (
         SELECT now.system <> last.system
                OR pg_snapshot_xmax(now.snapshot) < pg_snapshot_xmax(last.snapshot) AS is_restored) found
   WHERE found.is_restored
      OR last.at NOT BETWEEN clock_timestamp() - CAST(:apart AS interval) AND clock_timestamp()
     AND ((SELECT xact FROM jobtrail.transitions WHERE xact < pg_snapshot_xmax(now.snapshot)
            ORDER BY xact DESC LIMIT 1) >= pg_snapshot_xmax(last.snapshot)
          OR EXISTS (SELECT FROM pg_snapshot_xip(last.snapshot) AS x WHERE pg_visible_in_snapshot(x, now.snapshot)
                      AND (SELECT xact FROM jobtrail.transitions t WHERE t.xact = x LIMIT 1) IS NOT NULL))),
made AS (
  INSERT INTO jobtrail.feed_marks (no, snapshot, since, system)
  SELECT no, snapshot, CASE WHEN is_restored THEN clock_timestamp() ELSE since END, system FROM wanted
  ON CONFLICT DO NOTHING RETURNING no, tag, at)
SELECT coalesce(made.no, last.no), coalesce(made.tag, last.tag), coalesce(made.at, last.at),
       made.no IS NOT NULL OR NOT EXISTS (SELECT FROM wanted)
  FROM last LEFT JOIN made ON true
""")

_MARKS: Final = Statement("""
SELECT no, tag, at FROM jobtrail.feed_marks WHERE no > :after ORDER BY no LIMIT :most
""")

# The one before it must be there too, to tell what is new in it; unless all of that has been read.
_FIND: Final = Statement("""
SELECT FROM jobtrail.feed_marks WHERE no = :no AND tag = :tag
   AND (:is_read OR EXISTS (SELECT FROM jobtrail.feed_marks WHERE no = CAST(:no AS bigint) - 1))
""")

_OLDEST: Final = Statement("""
SELECT m.no, m.tag, m.at FROM jobtrail.feed_marks m JOIN jobtrail.feed_marks next ON next.no = m.no + 1
 ORDER BY m.no LIMIT 1
""")

MOVED: Final = """
older AS MATERIALIZED (SELECT snapshot FROM jobtrail.feed_marks WHERE no = :after),
newer AS MATERIALIZED (SELECT snapshot, since FROM jobtrail.feed_marks WHERE no = :upto),
moved AS (
  SELECT t.* FROM older CROSS JOIN newer CROSS JOIN LATERAL (
         SELECT * FROM jobtrail.transitions
          WHERE xact >= pg_snapshot_xmax(older.snapshot) AND xact < pg_snapshot_xmax(newer.snapshot)
          ORDER BY xact OFFSET 0) t
   WHERE pg_visible_in_snapshot(t.xact, newer.snapshot) AND t.at >= newer.since
  UNION ALL
  SELECT t.* FROM older CROSS JOIN newer CROSS JOIN pg_snapshot_xip(older.snapshot) AS x CROSS JOIN LATERAL (
         SELECT * FROM jobtrail.transitions WHERE xact = x ORDER BY xact OFFSET 0) t
   WHERE pg_visible_in_snapshot(x, newer.snapshot) AND t.at >= newer.since)
"""
"""For WITH: `moved` are the transitions after the mark `:after` up to the mark `:upto`."""

# `at` alone is not monotone, since clocks are set; its running maximum is.
_PLACES: Final = f"""
WITH {MOVED.replace("SELECT t.*", "SELECT t.job_id, t.seq, t.at")},
turns AS (
  SELECT job_id, seq, max(at) OVER (PARTITION BY job_id ORDER BY seq) AS turn FROM moved)
"""

_ROWS: Final = """
SELECT page.k, t.job_id, t.seq, t.attempt, t.from_status, t.to_status, t.at, t.actor, t.node_id, t.reason,
       CAST(t.error AS text), t.trace_id, t.task, j.queue, j.tags,
       coalesce(j.created_by, (SELECT actor FROM jobtrail.transitions b WHERE b.job_id = page.job_id AND b.seq = 1))
  FROM page JOIN jobtrail.transitions t ON t.job_id = page.job_id AND t.seq = page.seq
  LEFT JOIN jobtrail.jobs j ON j.id = page.job_id
 ORDER BY page.k
"""

_FIRST: Final = Statement(f"""
{_PLACES}, page AS MATERIALIZED (
  SELECT row_number() OVER (ORDER BY turn, job_id, seq) - 1 AS k, job_id, seq FROM turns
   ORDER BY turn, job_id, seq LIMIT {PAGE})
{_ROWS}
""")

# Twenty bytes each, since one transaction may have moved millions.
_ORDER: Final = text(f"""
{_PLACES} SELECT string_agg(uuid_send(job_id) || int4send(seq), '' ORDER BY turn, job_id, seq) FROM turns
""")
_KEY: Final = struct.Struct(">16si")

_PAGE: Final = Statement(f"""
WITH page AS MATERIALIZED (
  SELECT CAST(:k AS bigint) + n - 1 AS k, id AS job_id, seq
    FROM unnest(CAST(:ids AS uuid[]), CAST(:seqs AS int[])) WITH ORDINALITY AS u(id, seq, n)
   WHERE (SELECT count(*) FROM jobtrail.feed_marks WHERE no IN (CAST(:no AS bigint) - 1, :no)) = 2)
{_ROWS}
""")

# A mark is needed as long as the next one, whose delta it begins, though it may be much older where nothing moved. The
# mark at which a cursor stands says what comes after it.
_FORGET: Final = Statement("""
DELETE FROM jobtrail.feed_marks
 WHERE no < coalesce(
         (SELECT no - 1 FROM jobtrail.feed_marks
           WHERE at >= statement_timestamp() - CAST(:age AS interval) ORDER BY no LIMIT 1),
         (SELECT max(no) FROM jobtrail.feed_marks))
   AND no < coalesce((SELECT min(no) FROM jobtrail.feed_cursors), 9223372036854775807)
""")


LIMIT: Final = text("SELECT set_config('statement_timeout', :limit, true), set_config('enable_seqscan', 'off', true)")
"""For what reads whole marks. What one transaction did with millions of jobs is in one mark; it has most rows of the
history, which would then be read as a whole for any other.
"""


async def mark(database: Database, *, apart: timedelta = timedelta(0)) -> Mark:
    """The newest mark: it sees all that had been committed before this was called, unless the one before it was made
    within `apart`. Raises UnavailableError.
    """
    with unavailable():
        while True:
            [(*found, is_newest)] = await database.fetch(_MARK, apart=apart)
            if is_newest:
                return Mark(*found)


async def marks_after(database: Database, no: int) -> Sequence[Mark]:
    """At most a few, in their order. Raises UnavailableError."""
    with unavailable():
        return [Mark(*row) for row in await database.fetch(_MARKS, after=no, most=MOST_MARKS)]


async def find(database: Database, place: Place) -> bool:
    """Whether the feed can go on from there. Raises UnavailableError."""
    with unavailable():
        return bool(await database.fetch(_FIND, no=place.no, tag=place.tag, is_read=place.k == END))


async def oldest(database: Database) -> Mark | None:
    """The oldest mark after which something is known. Raises UnavailableError."""
    with unavailable():
        rows = await database.fetch(_OLDEST)
        return Mark(*rows[0]) if rows else None


async def first_page(database: Database, of: Mark) -> Sequence[Event]:
    """The first transitions of a mark: all of them, if there are fewer than PAGE. Empty where the mark cannot be read
    any more. Raises UnavailableError.
    """
    with unavailable():
        rows = await database.fetch(_FIRST, after=of.no - 1, upto=of.no)
    return [_event(of, *row) for row in rows]


async def order(database: Database, of: Mark) -> bytes:
    """The keys of all transitions of a mark, for `page`. It may take as long as it takes. Raises UnavailableError."""
    with unavailable():
        async with database.transaction(LONGEST) as session:
            await session.execute(LIMIT, {"limit": f"{LONGEST:.0f}s"})
            found = await session.execute(_ORDER, {"after": of.no - 1, "upto": of.no})
            return found.scalar() or b""


async def page(database: Database, of: Mark, keys: bytes, k: int) -> Sequence[Event]:
    """A page of the transitions of a mark, from its number `k` on; the last one is shorter than PAGE. Empty where the
    mark cannot be read any more. Raises UnavailableError.
    """
    wanted = list(_KEY.iter_unpack(keys[k * _KEY.size : (k + PAGE) * _KEY.size]))
    ids, seqs = [UUID(bytes=each[0]) for each in wanted], [each[1] for each in wanted]
    with unavailable():
        rows = await database.fetch(_PAGE, no=of.no, k=k, ids=ids, seqs=seqs)
    return [_event(of, *row) for row in rows]


def _event(of: Mark, k: int, *row: object) -> Event:
    *moved, queue, tags, created_by = row
    error = moved[9]
    moved[9] = None if error is None else json.loads(str(error))
    return Event(Place(of.no, of.tag, k), Transition(*moved), queue, tags or (), created_by)  # type: ignore[arg-type]


def place_after(page: Sequence[Event]) -> Place:
    """Where a reader is that has had a page of a mark."""
    last = page[-1].place
    return last if len(page) == PAGE else last._replace(k=END)


async def forget(database: Database, *, age: timedelta) -> None:
    """Remove marks that are older, but for those that something derived from the feed has yet to pass.

    Raises UnavailableError.
    """
    with unavailable():
        await database.fetch(_FORGET, age=age)
