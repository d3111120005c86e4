"""Security headers of every answer: guess no types, keep nothing, run nothing, frame nothing."""

import re
from base64 import b64encode
from collections.abc import Collection, Sequence
from hashlib import sha256
from typing import Final

RawHeaders = list[tuple[bytes, bytes]]

_NOTHING: Final = b"default-src 'none'; frame-ancestors 'none'"

_SAFE: Final[Sequence[tuple[bytes, bytes]]] = (
    (b"x-content-type-options", b"nosniff"),
    (b"cache-control", b"no-store"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-frame-options", b"DENY"),
    (b"content-security-policy", _NOTHING),
)

_INLINE: Final = re.compile(rb"<script>(.*?)</script>", re.DOTALL)


def protect(headers: RawHeaders) -> Collection[bytes]:
    """Adds what is not there yet: who says otherwise, such as a host's guard, has a reason. What was there, by name.

    Names are in lower case.
    """
    there = {name for name, _ in headers}
    headers += [each for each in _SAFE if each[0] not in there]
    return there


def let_page_run(headers: RawHeaders, page: bytes) -> None:
    """A page of the documentation may run what it was sent with, by its hash (CSP level 3, section 2.3.1), and no more.

    Swagger and ReDoc put styles into the page, and ReDoc its search into a worker.
    """
    hashes = b"".join(b" 'sha256-%s'" % b64encode(sha256(script).digest()) for script in _INLINE.findall(page))
    policy = (
        b"default-src 'none'; script-src 'self'%s; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
        b"connect-src 'self'; worker-src blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    headers[:] = [(name, value) for name, value in headers if name != b"content-security-policy"]
    headers.append((b"content-security-policy", policy % hashes))
