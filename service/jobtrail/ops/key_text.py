"""Access keys: their text, and the little that is kept of it.

A key is `jt_PREFIX_SECRET`. The prefix finds its row and may be shown; of the rest only a hash is kept.
"""

import base64
import hashlib
import hmac
import re
import secrets
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Annotated, Final, Literal
from uuid import UUID

from pydantic import Field

from jobtrail.errors import FieldError
from jobtrail.limits import MAX_TTL
from jobtrail.ops.access import SCOPES, Scope

NAME_PATTERN: Final = r"^[A-Za-z0-9][A-Za-z0-9_.:@-]{0,99}$"
MIN_LIFE: Final = 1
MAX_LIFE: Final = MAX_TTL
"""Seconds; longer is for ever, or a mistake."""

HOW_TO_NAME: Final = "write 1 to 100 letters, digits and _ . : @ -, a letter or digit first"
HOW_TO_SCOPE: Final = "write what the key may do: read, submit, operate, or several of them"
HOW_TO_END: Final = "write a time that is to come, at most ten years ahead"

_SHOWN: Final = len("jt_") + 12

_TEXT: Final = re.compile(r"jt_([a-z2-7]{12})_[A-Za-z0-9_-]{43}")
_BEGINNING: Final = re.compile(r"(?:jt_)?([a-z2-7]{12})(?:_.*)?", re.DOTALL)

State = Literal["active", "expired", "revoked"]


@dataclass(frozen=True, slots=True)
class NewKey:
    """`text` is for its owner alone, and shown once; `hash` is what stays."""

    text: str = field(repr=False)
    prefix: str
    hash: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class KeyRecord:
    """A key without its secret, which nobody can read any more."""

    id: UUID
    name: Annotated[str, Field(description="Of the caller, which is `key:NAME`; several keys may have one name.")]
    prefix: Annotated[str, Field(description="The key begins with `jt_PREFIX_`.")]
    scopes: Sequence[Scope]
    state: Annotated[State, Field(description="Now, by the database's clock.")]
    created_at: datetime
    created_by: str
    expires_at: Annotated[datetime | None, Field(description="null: never.")]
    revoked_at: datetime | None
    revoked_by: str | None
    last_used_at: Annotated[datetime | None, Field(description="To the minute; null: never.")]


def make() -> NewKey:
    """60 random bits to be found by, and 256 that are secret."""
    prefix = base64.b32encode(secrets.token_bytes(8)).decode().lower()[:12]
    text = f"jt_{prefix}_{secrets.token_urlsafe(32)}"
    return NewKey(text, prefix, digest(text))


def parse(text: str) -> str | None:
    """The prefix of what has the form of a key, else None. Reads no more of a long text than a key is long."""
    written = _TEXT.fullmatch(text)
    return written and written[1]


def digest(text: str) -> bytes:
    """32 bytes. A slow hash is for passwords, which can be guessed: 2**256 secrets cannot be tried."""
    return hashlib.sha256(text.encode(errors="surrogatepass")).digest()


def matches(kept: bytes, shown: bytes) -> bool:
    """Takes as long for any two hashes."""
    return hmac.compare_digest(kept, shown)


def prefix_in(written: str) -> str | None:
    """The prefix in whatever an operator has of a key: the prefix, the key's beginning, all of it."""
    found = _BEGINNING.fullmatch(written)
    return found and found[1]


def shown(written: str) -> str:
    """As much of a text as may be repeated: should a key be in it, its secret is not."""
    return written if len(written) <= _SHOWN else f"{written[:_SHOWN]}…"


def flaws_of(
    name: str, scopes: Collection[str], expires_at: datetime | None, lives_for: timedelta | None
) -> list[FieldError]:
    """Everything that is wrong with a wish for a key but what only the database's clock can tell."""
    found = []
    if not re.fullmatch(NAME_PATTERN, name):
        found.append(FieldError("/name", HOW_TO_NAME))
    if not scopes or not set(scopes) <= set(SCOPES):
        found.append(FieldError("/scopes", HOW_TO_SCOPE))
    if expires_at is not None and lives_for is not None:
        found.append(FieldError("/expires_at", "say it once: a time or a duration"))
    if lives_for is not None and not timedelta(seconds=MIN_LIFE) <= lives_for <= timedelta(seconds=MAX_LIFE):
        found.append(FieldError("/expires_in", "a key lives for 1 second to ten years"))
    return found
