"""Whose key a caller shows."""

import logging
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Final, NamedTuple, cast

from jobtrail.db.errors import unavailable
from jobtrail.db.group_commit import GroupCommit
from jobtrail.job.access import Caller, Scope
from jobtrail.job.errors import UnavailableError
from jobtrail.job.key import digest, matches, parse
from jobtrail.jobs.services import PATIENCE, SILENCE, Services
from jobtrail.ops import key_rows
from jobtrail.ops.key_rows import Lookup

log = logging.getLogger(__name__)

REMEMBERED_FOR: Final = 1.0
"""Seconds. So long a key may be taken after it was revoked, and nobody be asked for one after another process made the
first.
"""

MOST_REMEMBERED: Final = 1000

TOLD_EVERY: Final = 10.0
"""Seconds between two lines of the log that give the same reason for a refusal."""

_NOBODYS: Final = bytes(32)
"""What is compared where there is no such key."""


class _Known(NamedTuple):
    caller: Caller
    until: float


class KeyRing:
    """The keys as a service needs them with each call. A right one is remembered for a moment. All wrong ones go the
    same way, so that its length tells nothing: one look-up, one comparison.
    """

    def __init__(self, services: Services, *, clock: Callable[[], float] = time.monotonic) -> None:
        """`clock` tells seconds."""
        self._database = services.database
        self._has_keys = services.has_keys
        # in groups, so that a storm of forged keys has one connection and not all
        self._lookups: GroupCommit[str, Lookup | None] = GroupCommit(
            partial(key_rows.look_up_group, services.database), patience=PATIENCE, longest=SILENCE, reads=True
        )
        self._counts: GroupCommit[None, bool] = GroupCommit(
            partial(key_rows.any_group, services.database), patience=PATIENCE, longest=SILENCE, reads=True
        )
        self._clock = clock
        self._known: dict[bytes, _Known] = {}
        self._told: dict[str, float] = {}
        self._asked_at = float("-inf")

    async def needed(self) -> bool:
        """Whether there is any key, be it revoked or expired. Raises UnavailableError."""
        now = self._clock()
        if not self._has_keys.is_set() and now - self._asked_at >= REMEMBERED_FOR:
            if await self._counts.put(None):
                self._has_keys.set()
            self._asked_at = now
        return self._has_keys.is_set()

    async def identify(self, text: str | None) -> Caller | None:
        """Who shows this; None: nobody's key, or one that is revoked or expired by the database's clock.

        Raises UnavailableError.
        """
        if text is None:
            return None
        prefix, began = parse(text), self._clock()
        hashed = digest(text if prefix else "")  # what has not a key's form may be of any length
        known = self._known.get(hashed)
        if known is not None and began < known.until:
            return known.caller
        found = _judge(await self._lookups.put(prefix or ""), prefix, hashed)
        if isinstance(found, str):
            self._tell(found, prefix)
            return None
        if found.is_stale:
            await self._say_used(found)
        return self._remember(hashed, found, began)

    def _tell(self, why: str, prefix: str | None) -> None:
        """The caller is not told why, so the log is, which no storm of wrong keys fills."""
        now = self._clock()
        if now - self._told.get(why, float("-inf")) >= TOLD_EVERY:
            self._told[why] = now
            log.warning("access key refused", extra={"why": why, "prefix": prefix})

    async def _say_used(self, found: Lookup) -> None:
        """Where it cannot be written now, the next call says it."""
        with suppress(UnavailableError), unavailable():
            await key_rows.say_used(self._database, found.id)

    def _remember(self, hashed: bytes, found: Lookup, began: float) -> Caller:
        caller = Caller(f"key:{found.name}", frozenset(cast("list[Scope]", found.scopes)), found.lives_for)
        if len(self._known) >= MOST_REMEMBERED:
            self._known.clear()
        lives_for = REMEMBERED_FOR if found.lives_for is None else min(REMEMBERED_FOR, found.lives_for)
        self._known[hashed] = _Known(caller, began + lives_for)
        return caller


def _judge(found: Lookup | None, prefix: str | None, hashed: bytes) -> Lookup | str:
    """The row of a key that counts, or why it does not."""
    is_right = matches(_NOBODYS if found is None else found.hash, hashed)
    if found is None or not is_right:
        return "malformed" if prefix is None else "unknown"
    if found.is_revoked:
        return "revoked"
    if found.lives_for is not None and found.lives_for <= 0:
        return "expired"
    return found
