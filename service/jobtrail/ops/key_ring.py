"""Finds the caller of an access key."""

import logging
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Final, cast

from jobtrail.db.errors import unavailable
from jobtrail.db.group_commit import GroupCommit
from jobtrail.errors import UnavailableError
from jobtrail.jobs.services import PATIENCE, SILENCE, Services
from jobtrail.ops import key_rows
from jobtrail.ops.access import Caller, Scope
from jobtrail.ops.key_rows import Found, KeyRow
from jobtrail.ops.key_text import digest, matches, parse

log = logging.getLogger(__name__)

REMEMBERED_FOR: Final = 1.0
"""Seconds for which a revoked key may still be taken, and for which no key is asked for after another process made the
first.
"""

MOST_REMEMBERED: Final = 1000

TOLD_EVERY: Final = 10.0
"""Seconds between two lines of the log that give the same reason for a refusal."""

_NO_HASH: Final = bytes(32)
"""Compared where there is no such key."""


class KeyVerifier:
    """Finds the caller of an access key, and remembers a right key for a second. All wrong keys take the same time: one
    look-up, one comparison.
    """

    def __init__(self, services: Services, *, clock: Callable[[], float] = time.monotonic) -> None:
        """`clock` tells seconds."""
        self._database = services.database
        self._has_keys = services.has_keys
        # in groups, so that a storm of forged keys has one connection and not all
        self._lookups: GroupCommit[str, Found] = GroupCommit(
            partial(key_rows.look_up_group, services.database), patience=PATIENCE, longest=SILENCE, reads=True
        )
        self._clock = clock
        self._verified: dict[bytes, tuple[Caller, float]] = {}
        self._warned: dict[str, float] = {}
        self._asked_at = float("-inf")

    async def needed(self) -> bool:
        """True if there is any key, be it revoked or expired. Raises UnavailableError."""
        now = self._clock()
        if not self._has_keys.is_set() and now - self._asked_at >= REMEMBERED_FOR:
            await self._look_up("")
            self._asked_at = now
        return self._has_keys.is_set()

    async def identify(self, text: str | None) -> Caller | None:
        """The caller whose key this is; None where there is no such key, or it is revoked or expired by the database's
        clock. Raises UnavailableError.
        """
        if text is None:
            return None
        prefix, began = parse(text), self._clock()
        hashed = digest(text if prefix else "")  # what has not a key's form may be of any length
        caller, until = self._verified.get(hashed, (None, began))
        if began < until:
            return caller
        key = await self._look_up(prefix or "")
        is_right = matches(_NO_HASH if key is None else key.hash, hashed)
        if key is None or not is_right:
            self._warn("malformed" if prefix is None else "unknown", prefix)
        elif key.is_revoked:
            self._warn("revoked", prefix)
        elif key.lives_for is not None and key.lives_for <= 0:
            self._warn("expired", prefix)
        else:
            if key.is_stale:
                with suppress(UnavailableError), unavailable():  # else the next call says it
                    await key_rows.say_used(self._database, key.id)
            return self._remember(hashed, key, began)
        return None

    async def _look_up(self, prefix: str) -> KeyRow | None:
        found = await self._lookups.put(prefix)
        if found.any_keys:
            self._has_keys.set()
        return found.key

    def _warn(self, why: str, prefix: str | None) -> None:
        """Logs why, since the caller is not told; a storm of wrong keys does not fill the log."""
        now = self._clock()
        if now - self._warned.get(why, float("-inf")) >= TOLD_EVERY:
            self._warned[why] = now
            log.warning("access key refused", extra={"why": why, "prefix": prefix})

    def _remember(self, hashed: bytes, key: KeyRow, began: float) -> Caller:
        caller = Caller(f"key:{key.name}", frozenset(cast("list[Scope]", key.scopes)), key.lives_for)
        if len(self._verified) >= MOST_REMEMBERED:
            self._verified.clear()
        seconds = REMEMBERED_FOR if key.lives_for is None else min(REMEMBERED_FOR, key.lives_for)
        self._verified[hashed] = caller, began + seconds
        return caller
