"""A page's cursor as opaque text: a version byte, 8 bytes of microseconds, the id."""

import struct
from base64 import urlsafe_b64decode, urlsafe_b64encode
from datetime import UTC, datetime, timedelta
from typing import Final
from uuid import UUID

from jobtrail.errors import FieldError, InvalidInputError
from jobtrail.jobs.query import Cursor

_LAYOUT: Final = struct.Struct(">Bq16s")
_VERSION: Final = 1
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)


def write(place: Cursor) -> str:
    packed = _LAYOUT.pack(_VERSION, (place.created_at - _EPOCH) // _MICROSECOND, place.id.bytes)
    return urlsafe_b64encode(packed).rstrip(b"=").decode()


def read(text: str) -> Cursor:
    """Raises InvalidInputError for anything that `write` did not make."""
    try:
        packed = urlsafe_b64decode(text.encode("ascii") + b"=" * (-len(text) % 4))
        version, microseconds, job_id = _LAYOUT.unpack(packed)
        place = Cursor(_EPOCH + timedelta(microseconds=microseconds), UUID(bytes=job_id))
    except (ValueError, struct.error, OverflowError):
        raise _refused() from None
    if version != _VERSION or write(place) != text:
        raise _refused()
    return place


def _refused() -> InvalidInputError:
    return InvalidInputError(
        [FieldError("?cursor", "this is no cursor of this list: take next_cursor as it was given")]
    )
