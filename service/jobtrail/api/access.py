"""Who may call. The stand-alone service asks for keys; among a host's routes the host's own guards ask."""

from collections.abc import Collection
from typing import Protocol

from starlette.requests import Request

from jobtrail.job.access import ANONYMOUS, Caller, Scope


class Access(Protocol):
    """How a door knows its callers."""

    async def admit(self, request: Request, needs: Collection[Scope]) -> None:
        """Before anything of the request is looked at. `needs`: one of these scopes, or nothing if it is empty.

        Raises UnauthorizedError, ForbiddenError, UnavailableError.
        """

    def caller(self, request: Request) -> Caller:
        """Who was admitted; asked by the endpoint, so after the guards of a host."""


class Open:
    """Everybody may do everything: for a process that only its own machine reaches."""

    async def admit(self, request: Request, needs: Collection[Scope]) -> None:
        """Nobody is asked."""

    def caller(self, request: Request) -> Caller:  # noqa: ARG002 - the protocol's
        return ANONYMOUS
