"""Our routes among a host's: behind its guards, and looking for what is open only when they are called."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final, Literal

from fastapi import params
from starlette.requests import Request

from jobtrail.api.access import CALLER, Access
from jobtrail.api.context import Launch
from jobtrail.api.query import OTHER_NAMES
from jobtrail.api.routes import Guards
from jobtrail.embed.opened import Opened
from jobtrail.errors import ForbiddenError
from jobtrail.jobs.services import Services
from jobtrail.ops.access import SCOPES, Caller, Scope
from jobtrail.redaction import Redaction

OPEN: Final = "open"

Guard = params.Depends | Sequence[params.Depends] | Literal["open"] | None
"""What a group of calls asks of callers; None: there are no such calls."""


def guards_of(read: Guard, submit: Guard, operate: Guard) -> Guards:
    """The dependencies of each group of calls that there is. Raises TypeError for what is no guard."""
    given: dict[Scope, Guard] = {"read": read, "submit": submit, "operate": operate}
    guards: dict[Scope, Sequence[params.Depends]] = {}
    for scope, guard in given.items():
        match guard:
            case None:
                continue
            case "open":
                guards[scope] = ()
            case params.Depends():
                guards[scope] = (guard,)
            case [*several] if several and all(isinstance(each, params.Depends) for each in several):
                guards[scope] = several
            case _:
                raise TypeError(
                    f'{scope}={guard!r:.80}: write a guard as in {scope}=Depends(staff), "open" for everybody, or '
                    "None for no such calls"
                )
    return guards


@dataclass(frozen=True, slots=True)
class HostAccess:
    """The guards of the host decide who comes in; `who` says their names, and what it knows of them. `trusted`: who may
    read may operate too.
    """

    who: Callable[[Request, Caller], Caller]
    trusted: bool

    async def admit(self, request: Request, needs: Collection[Scope]) -> None:  # noqa: ARG002 - the protocol's
        """The host's guards ask, later; they may read names of the query that are none of ours."""
        request.scope[OTHER_NAMES] = True

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
class HostContext:
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
