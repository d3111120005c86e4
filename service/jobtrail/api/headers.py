"""The request headers that the calls read."""

import re
from typing import Final

from starlette.requests import Request

from jobtrail.errors import FieldError, InvalidInputError
from jobtrail.ids import parse_traceparent
from jobtrail.limits import MAX_KEY

IDEMPOTENCY_KEY: Final = "Idempotency-Key"

IDEMPOTENCY_PATTERN: Final = rf'^("([ !#-\[\]-~]|\\["\\]){{1,{MAX_KEY}}}"|[!#-~]{{1,{MAX_KEY}}})$'
"""The form of a key that `idempotency_key_of` takes, for the documentation."""

# RFC 8941, section 3.3.3; and bare: visible ASCII without a quote.
_QUOTED: Final = re.compile(r'"((?:[\x20\x21\x23-\x5b\x5d-\x7e]|\\["\\])*)"')
_BARE: Final = re.compile(r"[\x21\x23-\x7e]+")
_ESCAPE: Final = re.compile(r'\\(["\\])')


def trace_of(request: Request) -> str | None:
    """The trace id of the one valid `traceparent`, else None."""
    found = request.headers.getlist("traceparent")
    return parse_traceparent(found[0]) if len(found) == 1 else None


def idempotency_key_of(request: Request) -> str | None:
    """The key, whether it came as a string of RFC 8941 or bare; None without the header.

    Raises InvalidInputError for anything else, an empty one, and one of more than 255 characters.
    """
    found = request.headers.getlist(IDEMPOTENCY_KEY)
    if not found:
        return None
    if len(found) > 1:
        raise _refused("there is more than one")
    if quoted := _QUOTED.fullmatch(found[0]):
        key = _ESCAPE.sub(r"\1", quoted[1])
    elif _BARE.fullmatch(found[0]):
        key = found[0]
    else:
        raise _refused('write visible ASCII, bare or as an RFC 8941 string: "k"')
    if not 1 <= len(key) <= MAX_KEY:
        raise _refused(f"a key has 1 to {MAX_KEY} characters, this one {len(key)}")
    return key


def refuse_idempotency_key(request: Request) -> None:
    if IDEMPOTENCY_KEY in request.headers:
        raise _refused("a batch takes no key: submit the jobs one by one, each with its own")


def _refused(detail: str) -> InvalidInputError:
    return InvalidInputError([FieldError(f"{IDEMPOTENCY_KEY}:", detail)])
