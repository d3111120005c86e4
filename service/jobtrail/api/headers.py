"""Headers: those that the calls read, and those that every answer has."""

import re
from base64 import b64encode
from hashlib import blake2b, sha256
from typing import Final

from starlette.requests import Request
from starlette.types import Scope

from jobtrail import errors, ids, ranges

RawHeaders = list[tuple[bytes, bytes]]

IDEMPOTENCY_KEY: Final = "Idempotency-Key"

IDEMPOTENCY_PATTERN: Final = rf'^("([ !#-\[\]-~]|\\["\\]){{1,{ranges.MAX_KEY}}}"|[!#-~]{{1,{ranges.MAX_KEY}}})$'
"""The form of a key that `idempotency_key_of` takes, for the documentation."""

# RFC 8941, section 3.3.3; and bare: visible ASCII without a quote.
_QUOTED: Final = re.compile(r'"((?:[\x20\x21\x23-\x5b\x5d-\x7e]|\\["\\])*)"')
_BARE: Final = re.compile(r"[\x21\x23-\x7e]+")
_ESCAPE: Final = re.compile(r'\\(["\\])')

_TAG: Final = re.compile(r'(W/)?("[\x21\x23-\x7e\x80-\xff]*")')
_TAGS: Final = re.compile(rf"[ \t,]*(?:{_TAG.pattern}[ \t]*(?:,[ \t,]*|$))*")

_WAIT: Final = re.compile(r"wait[ \t]*=[ \t]*\"?([0-9]+)\"?", re.ASCII | re.IGNORECASE)
_WITH_COMMA: Final = re.compile(r'"[^",]*,[^"]*"')

# guess no types, keep nothing, run nothing, frame nothing
_SECURITY: Final = (
    (b"x-content-type-options", b"nosniff"),
    (b"cache-control", b"no-store"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-frame-options", b"DENY"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
)
_INLINE: Final = re.compile(rb"<script>(.*?)</script>", re.DOTALL)


def trace_of(request: Request) -> ids.Trace | None:
    """The trace of the one valid `traceparent`, else None."""
    found = request.headers.getlist("traceparent")
    return ids.parse_traceparent(found[0]) if len(found) == 1 else None


def trace_id_of(request: Request) -> str:
    """The trace id that an answer names: of the one valid `traceparent`, else a new one."""
    found = trace_of(request)
    return ids.new_trace_id() if found is None else found.id


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
    if not 1 <= len(key) <= ranges.MAX_KEY:
        raise _refused(f"a key has 1 to {ranges.MAX_KEY} characters, this one {len(key)}")
    return key


def refuse_idempotency_key(request: Request) -> None:
    if IDEMPOTENCY_KEY in request.headers:
        raise _refused("a batch takes no key: submit the jobs one by one, each with its own")


def wait_of(request: Request) -> int | None:
    """Seconds of `Prefer: wait=N` (RFC 7240, section 4.3), at most 30; None without one, and for what says nothing."""
    said = _WITH_COMMA.sub("", ",".join(request.headers.getlist("prefer")))
    for each in said.split(","):
        if found := _WAIT.fullmatch(each.partition(";")[0].strip(" \t")):
            digits = found[1].lstrip("0")
            return ranges.LONGEST_WAIT if len(digits) > 2 else min(int(digits or 0), ranges.LONGEST_WAIT) or None  # noqa: PLR2004
    return None


def etag_of(representation: bytes) -> str:
    """A strong entity tag (RFC 9110, section 8.8.3): it changes with any byte."""
    return f'"{blake2b(representation, digest_size=16).hexdigest()}"'


def matches_if_match(request: Request, etag: str) -> bool:
    """True if a change may go ahead. Only strong tags count; a header that cannot be read matches nothing."""
    found = request.headers.getlist("if-match")
    return not found or _matches(found, etag, weak=False)


def matches_if_none_match(request: Request, etag: str) -> bool:
    """True if the caller has this representation already; weak tags count too."""
    return _matches(request.headers.getlist("if-none-match"), etag, weak=True)


def complete(headers: RawHeaders, scope: Scope) -> None:
    """Adds the trace id and the security headers to the answer to a request. A header that is there already, such as
    one of a host's guard, stays.
    """
    there = dict(headers)
    headers += [each for each in _SECURITY if each[0] not in there]
    if b"x-trace-id" not in there:
        headers.append((b"x-trace-id", trace_id_of(Request(scope)).encode()))


def let_page_run(headers: RawHeaders, page: bytes) -> None:
    """Lets a page of the documentation run its scripts, by their hashes (CSP level 3, section 2.3.1), and no more.

    Swagger and ReDoc put styles into the page, and ReDoc its search into a worker.
    """
    hashes = b"".join(b" 'sha256-%s'" % b64encode(sha256(script).digest()) for script in _INLINE.findall(page))
    policy = (
        b"default-src 'none'; script-src 'self'%s; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
        b"connect-src 'self'; worker-src blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    headers[:] = [(name, value) for name, value in headers if name != b"content-security-policy"]
    headers.append((b"content-security-policy", policy % hashes))


def _refused(detail: str) -> errors.InvalidInputError:
    return errors.InvalidInputError([errors.FieldError(f"{IDEMPOTENCY_KEY}:", detail)])


def _matches(found: list[str], etag: str, *, weak: bool) -> bool:
    said = ",".join(found).strip()
    if said == "*":
        return True
    if not _TAGS.fullmatch(said):
        return False
    return any(tag == etag and (weak or not is_weak) for is_weak, tag in _TAG.findall(said))
