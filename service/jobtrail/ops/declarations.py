"""Schedules that code declares: which version counts while nodes of two releases are alive, and none of which goes on.

Each node's row lists what it declares, by name and hash. Of one name the hash that was first seen last counts, among
those that a living node lists; one that no node lists any more is forgotten, so a release that comes back is new again.
A pause and an edit of the schedule are never written over.
"""

import hashlib
from collections.abc import Collection, Mapping
from typing import Any, Final

from sqlalchemy import Column, Table, Text, text

from jobtrail.db.direct import Statement
from jobtrail.db.engine import Database
from jobtrail.db.tables import TIME, Json, metadata
from jobtrail.ops.nodes import LIVING
from jobtrail.task.catalog import Catalog
from jobtrail.task.schedule import ScheduleSpec
from jobtrail.task.storable import dump

TABLE: Final = Table(
    "declarations",
    metadata,
    Column("name", Text, primary_key=True),
    Column("hash", Text, primary_key=True),
    Column("spec", Json, nullable=False),
    Column("first_seen", TIME, nullable=False, server_default=text("clock_timestamp()")),
    info={"rights": "SELECT, INSERT, DELETE"},
)


def declared(catalog: Catalog, tasks: Collection[str]) -> Mapping[str, ScheduleSpec]:
    """The schedules that the code of these tasks declares, by name."""
    found = [task for task in catalog if task.name in tasks and task.schedule is not None]
    return {task.schedule_name: task.schedule for task in found if task.schedule is not None}


def hashes_of(schedules: Mapping[str, ScheduleSpec]) -> dict[str, str]:
    """As the row of a node lists them."""
    return {name: hashlib.sha256(_json(spec).encode()).hexdigest()[:32] for name, spec in schedules.items()}


def _json(spec: ScheduleSpec) -> str:
    said: dict[str, Any] = spec.model_dump(mode="json", include={"task", "cron", "every", "zone"})
    return dump(said)


# One statement, which writes nothing where all is as it should be. What was first seen a minute ago counts as listed: a
# node declares before its own row is there. A schedule that an operator made stays his, and so does an edited one;
# those are only switched on and off. A node of the release before lists nothing, and so disables nothing of its own.
_DECLARE: Final = Statement(f"""
WITH own AS MATERIALIZED (
    SELECT * FROM unnest(CAST(:names AS text[]), CAST(:hashes AS text[]), CAST(:specs AS jsonb[]))
        AS o(name, hash, spec)
), known AS MATERIALIZED (
    SELECT name, hash, spec, first_seen FROM jobtrail.declarations
    UNION ALL
    SELECT name, hash, spec, clock_timestamp() FROM own o
     WHERE NOT EXISTS (SELECT FROM jobtrail.declarations d WHERE d.name = o.name AND d.hash = o.hash)
), live AS MATERIALIZED (
    SELECT name, hash FROM own
    UNION
    SELECT l.key, l.value FROM jobtrail.nodes n CROSS JOIN LATERAL jsonb_each_text(n.declares) AS l
     WHERE {LIVING}
    UNION
    SELECT name, hash FROM known WHERE first_seen > clock_timestamp() - interval '60 s'
), winners AS MATERIALIZED (
    SELECT DISTINCT ON (k.name) k.name, k.hash, k.spec FROM known k JOIN live USING (name, hash)
     ORDER BY k.name, k.first_seen DESC, k.hash
), added AS (
    INSERT INTO jobtrail.declarations (name, hash, spec)
    SELECT name, hash, spec FROM known k WHERE (k.name, k.hash) IN (SELECT name, hash FROM own)
       AND NOT EXISTS (SELECT FROM jobtrail.declarations d WHERE d.name = k.name AND d.hash = k.hash)
    ON CONFLICT DO NOTHING
), forgotten AS (
    DELETE FROM jobtrail.declarations d
     WHERE NOT EXISTS (SELECT FROM live l WHERE l.name = d.name AND l.hash = d.hash)
), written AS (
    INSERT INTO jobtrail.schedules AS s (name, task, cron, every, zone, declared)
    SELECT w.name, w.spec ->> 'task', w.spec ->> 'cron', make_interval(secs => CAST(w.spec ->> 'every' AS float8)),
           w.spec ->> 'zone', w.hash
      FROM winners w
     WHERE NOT EXISTS (
        SELECT FROM jobtrail.schedules s WHERE s.name = w.name
           AND (s.declared IS NULL OR s.override_at IS NOT NULL OR s.declared = w.hash))
    ON CONFLICT (name) DO UPDATE
       SET task = excluded.task, cron = excluded.cron, every = excluded.every, zone = excluded.zone,
           declared = excluded.declared, disabled_at = NULL
     WHERE s.declared IS NOT NULL AND s.override_at IS NULL
), switched AS (
    UPDATE jobtrail.schedules s
       SET disabled_at = CASE WHEN s.disabled_at IS NULL THEN clock_timestamp() END
     WHERE s.declared IS NOT NULL
       AND (s.disabled_at IS NULL) <> EXISTS (SELECT FROM winners w WHERE w.name = s.name)
       AND NOT EXISTS (
           SELECT FROM winners w WHERE w.name = s.name AND w.hash <> s.declared AND s.override_at IS NULL)
    RETURNING s.name
)
SELECT name FROM switched
""")


async def declare(database: Database, schedules: Mapping[str, ScheduleSpec]) -> None:
    """Bring the table of schedules to what living nodes declare; `schedules` are those of this one."""
    hashes = hashes_of(schedules)
    await database.fetch(
        _DECLARE,
        names=list(schedules),
        hashes=[hashes[name] for name in schedules],
        specs=[_json(spec) for spec in schedules.values()],
    )
