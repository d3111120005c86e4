"""Authentication. The stand-alone service asks for access keys; among a host's routes the host's own guards ask."""

import re
from collections.abc import Collection, Sequence
from functools import lru_cache
from ipaddress import ip_address
from typing import Final, Protocol
from urllib.parse import urlsplit

from starlette.requests import Request

from jobtrail.api import problems
from jobtrail.callers import ANONYMOUS, Caller, Scope
from jobtrail.errors import ForbiddenError, UnauthorizedError
from jobtrail.ops.key_verifier import KeyVerifier

CALLER: Final = "jobtrail.caller"
"""Key of the caller in the scope of its request."""

_NOBODY: Final = Caller("anonymous", frozenset())


class Access(Protocol):
    """Tells callers apart."""

    async def admit(self, request: Request, needs: Collection[Scope]) -> None:
        """Before anything of the request is looked at. `needs`: one of these scopes, or nothing if it is empty.

        Raises UnauthorizedError, ForbiddenError, UnavailableError.
        """

    async def confirm(self, request: Request, needs: Sequence[Scope]) -> None:
        """After the guards of a host, and before the endpoint. Raises ForbiddenError."""

    def caller(self, request: Request) -> Caller:
        """The caller that was admitted and confirmed."""


class ApiKeyAuth:
    """Asks for access keys (RFC 6750). On `loopback`, and only there, no key is needed until the first is made."""

    def __init__(self, verifier: KeyVerifier, *, loopback: bool) -> None:
        self._verifier: Final = verifier
        self._loopback: Final = loopback

    async def admit(self, request: Request, needs: Collection[Scope]) -> None:
        if not needs:
            return
        if self._loopback and not await self._verifier.needed():
            _refuse_other_machines(request)
            caller: Caller | None = ANONYMOUS
        else:
            caller = await self._verifier.identify(key_of(request))
        if caller is None:
            raise UnauthorizedError("an access key is needed, sent as `Authorization: Bearer KEY`")
        if not caller.may(needs):
            raise ForbiddenError(caller.name, tuple(needs))
        request.scope[CALLER] = caller

    async def confirm(self, request: Request, needs: Sequence[Scope]) -> None:
        """It was admitted."""

    def caller(self, request: Request) -> Caller:
        found: Caller = request.scope.get(CALLER, _NOBODY)
        return found


def key_of(request: Request) -> str | None:
    """The text after `Bearer` (RFC 6750, section 2.1) of the one header Authorization, else None."""
    found = request.headers.getlist("authorization")
    if len(found) != 1:
        return None
    scheme, _, text = found[0].partition(" ")
    return text.strip(" ") if scheme.lower() == "bearer" else None


def _refuse_other_machines(request: Request) -> None:
    """A page from elsewhere may be led to this address by its own name (DNS rebinding), or post to it unread; the
    browser tells both.
    """
    for name in ("host", "origin"):
        for said in request.headers.getlist(name) or ([""] if name == "host" else []):
            if not _is_this_machine(said if name == "origin" else f"//{said}"):
                raise problems.NotThisMachineError(name.capitalize(), said)


_HOST: Final = re.compile(r"([a-z][a-z0-9+.-]*:)?//([\w.-]+|\[[0-9a-f:.]+\])(:\d{1,5})?", re.ASCII | re.IGNORECASE)
"""A host, maybe with its scheme and port, and nothing by which it could be read in two ways, such as `@` and `#`."""


@lru_cache(maxsize=32)
def _is_this_machine(url: str) -> bool:
    """RFC 6761, section 6.3: `localhost` and all names below it are this machine."""
    if not _HOST.fullmatch(url):
        return False
    try:
        name = urlsplit(url).hostname or ""
        return name == "localhost" or name.endswith(".localhost") or ip_address(name).is_loopback
    except ValueError:
        return False
