"""Verifies access keys with each request, and remembers a right one for a second."""

import asyncio
import hmac
import logging
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import Final, NamedTuple
from uuid import UUID

from sqlalchemy import text

from jobtrail import errors
from jobtrail.callers import Caller, Scope
from jobtrail.db.direct import Statement
from jobtrail.db.engine import Database
from jobtrail.db.errors import unavailable
from jobtrail.db.group_commit import GroupCommit
from jobtrail.jobs.services import PATIENCE, SILENCE, Services
from jobtrail.ops.keys import digest, parse

log = logging.getLogger(__name__)

REMEMBERED_FOR: Final = 1.0
"""Seconds for which a revoked key may still be taken, and for which no key is asked for after another process made the
first.
"""

MOST_REMEMBERED: Final = 1000

TOLD_EVERY: Final = 10.0
"""Seconds between two lines of the log that give the same reason for a refusal."""


class KeyVerifier:
    """Finds the caller of an access key, and remembers a right key for a second. All wrong keys take the same time: one
    look-up, one comparison.
    """

    def __init__(self, services: Services, *, clock: Callable[[], float] = time.monotonic) -> None:
        """`clock` tells seconds."""
        self._database = services.database
        self._has_keys = services.has_keys
        # in groups, so that a storm of forged keys has one connection and not all
        self._lookups: GroupCommit[str, _Found] = GroupCommit(
            partial(_look_up, services.database), patience=PATIENCE, longest=SILENCE, reads=True
        )
        self._clock = clock
        self._verified: dict[bytes, tuple[Caller, float]] = {}
        self._warned: dict[str, float] = {}
        self._asked_at = float("-inf")
        self._asking: asyncio.Future[_Found] | None = None

    async def needed(self) -> bool:
        """True if there is any key, be it revoked or expired. Raises UnavailableError."""
        if self._has_keys.is_set():
            return True
        now = self._clock()
        if now - self._asked_at >= REMEMBERED_FOR / 2:  # early, so that under load no request waits for it
            self._ask()
        while not self._has_keys.is_set() and now - self._asked_at >= REMEMBERED_FOR:
            await asyncio.shield(self._ask())
        return self._has_keys.is_set()

    def _ask(self) -> "asyncio.Future[_Found]":
        # one that has its answer, and has not been heard yet, would be awaited again and again
        if self._asking is None or self._asking.done():
            self._asking = self._lookups.offer("")
            self._asking.add_done_callback(partial(self._answered, self._clock()))
        return self._asking

    def _answered(self, asked_at: float, answer: "asyncio.Future[_Found]") -> None:
        if self._asking is answer:
            self._asking = None
        if not answer.cancelled() and answer.exception() is None:
            self._asked_at = asked_at
            if answer.result().any_keys:
                self._has_keys.set()

    async def identify(self, written: str | None) -> Caller | None:
        """The caller whose key this is; None where there is no such key, or it is revoked or expired by the database's
        clock. Raises UnavailableError.
        """
        if written is None:
            return None
        prefix, began = parse(written), self._clock()
        hashed = digest(written if prefix else "")  # what has not a key's form may be of any length
        caller, until = self._verified.get(hashed, (None, began))
        if began < until:
            return caller
        key = await self._find(prefix or "")
        is_right = hmac.compare_digest(key.hash or bytes(32), hashed)  # also where there is no such key
        why = None
        if key.id is None or not is_right:
            why = "malformed" if prefix is None else "unknown"
        elif key.is_revoked:
            why = "revoked"
        elif key.lives_for is not None and key.lives_for <= 0:
            why = "expired"
        if why is not None:
            self._warn(why, prefix)
            return None
        if key.is_stale:
            with suppress(errors.UnavailableError), unavailable():  # else the next call says it
                async with self._database.autocommit() as connection:
                    await connection.execute(_SAY_USED, {"id": key.id})
        caller = Caller(f"key:{key.name}", frozenset(key.scopes), key.lives_for)
        if len(self._verified) >= MOST_REMEMBERED:
            self._verified.clear()
        self._verified[hashed] = caller, began + min(REMEMBERED_FOR, key.lives_for or REMEMBERED_FOR)
        return caller

    async def _find(self, prefix: str) -> "_Found":
        found = await self._lookups.put(prefix)
        if found.any_keys:
            self._has_keys.set()
        return found

    def _warn(self, why: str, prefix: str | None) -> None:
        """Logs why, since the caller does not learn it; a storm of wrong keys does not fill the log."""
        now = self._clock()
        if now - self._warned.get(why, float("-inf")) >= TOLD_EVERY:
            self._warned[why] = now
            log.warning("access key refused", extra={"why": why, "prefix": prefix})


class _Found(NamedTuple):
    """`lives_for` in seconds, None: for ever; `is_stale`: last used more than a minute ago. Without a key but for
    `any_keys` where there is none with this prefix.
    """

    any_keys: bool
    id: UUID | None
    name: str
    hash: bytes | None
    scopes: Sequence[Scope]
    is_revoked: bool
    lives_for: float | None
    is_stale: bool


_LOOK_UP: Final = Statement("""
SELECT EXISTS (SELECT FROM jobtrail.keys) AS any_keys, k.id, k.name, k.hash, k.scopes,
       k.revoked_at IS NOT NULL AS is_revoked,
       CAST(extract(epoch FROM k.expires_at - clock_timestamp()) AS float8) AS lives_for,
       coalesce(k.last_used_at < clock_timestamp() - interval '1 minute', true) AS is_stale
  FROM unnest(CAST(:prefixes AS text[])) WITH ORDINALITY AS asked(prefix, place)
  LEFT JOIN jobtrail.keys k ON k.prefix = asked.prefix
 ORDER BY asked.place
""")

# A locked row is left as it is: no caller waits for this.
_SAY_USED: Final = text("""
UPDATE jobtrail.keys SET last_used_at = clock_timestamp()
 WHERE id = (SELECT id FROM jobtrail.keys
              WHERE id = :id AND coalesce(last_used_at < clock_timestamp() - interval '1 minute', true)
                FOR UPDATE SKIP LOCKED)
""")


async def _look_up(database: Database, prefixes: Sequence[str]) -> Sequence[_Found]:
    """For each prefix, in their order."""
    return [_Found(*row) for row in await database.fetch(_LOOK_UP, prefixes=prefixes)]
