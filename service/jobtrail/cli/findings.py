"""Findings of `jobtrail doctor`, and what the database answered that they are made of."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Literal

from jobtrail.db import rights
from jobtrail.db.migrate import Schema
from jobtrail.ops import doctor as questions
from jobtrail.ops.nodes import NodeRecord
from jobtrail.ops.pauses import Pause
from jobtrail.records import Stats
from jobtrail.settings import Settings
from jobtrail.task.catalog import Catalog, Namesakes


@dataclass(frozen=True, slots=True)
class Finding:
    check: str
    level: Literal["ok", "warn", "fault"]
    detail: str
    fix: str | None = None


def ok(check: str, detail: str) -> Finding:
    return Finding(check, "ok", detail)


def warn(check: str, detail: str, fix: str) -> Finding:
    return Finding(check, "warn", detail, fix)


def fault(check: str, detail: str, fix: str) -> Finding:
    return Finding(check, "fault", detail, fix)


@dataclass(frozen=True, slots=True)
class Found:
    """Answers of the database. `ahead`: how far its clock is before ours; `is_pooled`: PgBouncer stands between. The
    last eight are empty without a schema.
    """

    settings: Settings
    catalog: Catalog
    shown_url: str
    server: questions.Server
    ahead: timedelta
    schema: Schema
    revision: str | None
    lacks: Sequence[rights.Lack] = ()
    is_pooled: bool = False
    living: Sequence[NodeRecord] = ()
    silent: Sequence[NodeRecord] = ()
    stranded: Sequence[questions.Stranded] = ()
    lapsed: Sequence[questions.Lapsed] = ()
    pauses: Sequence[Pause] = ()
    namesakes: Sequence[Namesakes] = ()
    stats: Stats | None = None
    holder: questions.Holder | None = None

    @property
    def can_be_read(self) -> bool:
        return self.schema.is_usable and not any("SELECT" in each.rights for each in self.lacks)
