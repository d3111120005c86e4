"""What a caller may change of a row without moving it: ttl, priority, run_at, tags."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

from sqlalchemy import case, exists, func, or_, update
from sqlalchemy.ext.asyncio import AsyncSession

from jobtrail.store.tables import app_keys, jobs


@dataclass(frozen=True)
class Change:
    """Only what `fields` names is changed; `ttl` None keeps the row, `run_at` None is now, by the database's clock."""

    fields: frozenset[str]
    ttl: timedelta | None = None
    priority: int | None = None
    run_at: datetime | None = None
    tags: Sequence[str] = ()

    @property
    def needs_pending(self) -> bool:
        return bool(self.fields & PENDING_ONLY)


PENDING_ONLY: Final = frozenset({"priority", "run_at"})


async def amend(session: AsyncSession, job_id: UUID, change: Change) -> None:
    """Write the change in the caller's transaction, which holds the row's lock; a new ttl counts from the finish."""
    values: dict[str, Any] = {name: getattr(change, name) for name in change.fields - {"ttl"}}
    if "tags" in values:
        values["tags"] = list(change.tags)
    if "run_at" in values and change.run_at is None:
        values["run_at"] = func.statement_timestamp()
    if "ttl" in change.fields:
        # a key must be remembered for a day, or a late repeat would run twice
        has_app_key = exists().where(app_keys.c.job_id == jobs.c.id)
        has_key = or_(jobs.c.idempotency_key.is_not(None), has_app_key)
        kept = case((has_key, func.greatest(change.ttl, KEY_LIFE)), else_=change.ttl)
        ttl = None if change.ttl is None else kept
        values |= {"ttl": ttl, "ttl_failed": ttl, "expires_at": None if ttl is None else jobs.c.finished_at + ttl}
    await session.execute(update(jobs).where(jobs.c.id == job_id).values(**values))


KEY_LIFE: Final = timedelta(hours=24)
"""How long an idempotency key is kept at least."""
