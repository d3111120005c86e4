"""Entity tags and the headers that ask about them (RFC 9110, sections 8.8.3 and 13.1)."""

import re
from hashlib import blake2b
from typing import Final

from starlette.requests import Request

_TAG: Final = re.compile(r'(W/)?("[\x21\x23-\x7e\x80-\xff]*")')
_LIST: Final = re.compile(rf"[ \t,]*(?:{_TAG.pattern}[ \t]*(?:,[ \t,]*|$))*")


def etag_of(representation: bytes) -> str:
    """A strong tag: it changes with any byte."""
    return f'"{blake2b(representation, digest_size=16).hexdigest()}"'


def matches_if_match(request: Request, etag: str) -> bool:
    """True if a change may go ahead. Only strong tags count; a header that cannot be read matches nothing."""
    found = request.headers.getlist("if-match")
    return not found or _matches(found, etag, weak=False)


def matches_if_none_match(request: Request, etag: str) -> bool:
    """True if the caller has this representation already; weak tags count too."""
    return _matches(request.headers.getlist("if-none-match"), etag, weak=True)


def _matches(found: list[str], etag: str, *, weak: bool) -> bool:
    said = ",".join(found).strip()
    if said == "*":
        return True
    if not _LIST.fullmatch(said):
        return False
    return any(tag == etag and (weak or not is_weak) for is_weak, tag in _TAG.findall(said))
