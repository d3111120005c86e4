"""Our routes among a host's: behind its guards, and looking for what is open only when they are called."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final, Literal

from fastapi import params
from starlette.requests import Request

from jobtrail.api.access import CALLER, Access
from jobtrail.api.door import Launch
from jobtrail.api.routes import Guards
from jobtrail.embed.opened import Opened
from jobtrail.job.access import SCOPES, Caller, Scope
from jobtrail.job.errors import ForbiddenError
from jobtrail.job.redaction import Redaction
from jobtrail.jobs.services import Services

OPEN: Final = "open"

Guard = params.Depends | Sequence[params.Depends] | Literal["open"] | None
"""What a group of calls asks of callers; None: there are no such calls."""


def guards_of(read: Guard, submit: Guard, operate: Guard) -> Guards:
    """Raises TypeError for what is no guard."""
    given: dict[Scope, Guard] = {"read": read, "submit": submit, "operate": operate}
    return {scope: _dependencies(scope, guard) for scope, guard in given.items() if guard is not None}


def _dependencies(scope: Scope, guard: Guard) -> Sequence[params.Depends]:
    match guard:
        case "open":
            return ()
        case params.Depends():
            return (guard,)
        case [*several] if several and all(isinstance(each, params.Depends) for each in several):
            return several
        case _:
            raise TypeError(
                f'{scope}={guard!r:.80}: write a guard as in {scope}=Depends(staff), "open" for everybody, or '
                "None for no such calls"
            )


@dataclass(frozen=True, slots=True)
class HostAccess:
    """The guards of the host decide who comes in; `who` says their names, and what it knows of them. `trusted`: who may
    read may operate too.
    """

    who: Callable[[Request, Caller], Caller]
    trusted: bool

    async def admit(self, request: Request, needs: Collection[Scope]) -> None:
        """The host's guards ask, later."""

    async def confirm(self, request: Request, needs: Sequence[Scope]) -> None:
        """Whom a guard lets in may do what it guards, unless `who` says otherwise."""
        granted: set[Scope] = {"read", "submit", *needs[:1]}
        nobody = Caller("anonymous", frozenset(SCOPES if self.trusted else granted))
        caller = request.scope[CALLER] = self.who(request, nobody)
        if not caller.may(needs):
            raise ForbiddenError(caller.name, tuple(needs))

    def caller(self, request: Request) -> Caller:
        found: Caller = request.scope[CALLER]
        return found


@dataclass(frozen=True, slots=True)
class HostDoor:
    """`opened` raises NotRunningError while nothing is open."""

    opened: Callable[[], Opened]
    access: Access

    @property
    def services(self) -> Services:
        return self.opened().services

    @property
    def launch(self) -> Launch:
        return self.opened().launch

    @property
    def accepting(self) -> Callable[[], bool]:
        return self.opened().accepting

    @property
    def max_body(self) -> int:
        return self.opened().settings.max_body

    @property
    def body_timeout(self) -> timedelta:
        return self.opened().settings.body_timeout

    @property
    def redaction(self) -> Redaction:
        return self.opened().redaction
