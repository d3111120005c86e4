"""Our routes in a host's app, behind its guards. They look for the running Jobtrail only when they are called."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Literal

from fastapi import APIRouter, params
from starlette.requests import Request

from jobtrail.api.access import CALLER, Access
from jobtrail.api.context import Launch
from jobtrail.api.query import OTHER_NAMES
from jobtrail.api.routes import routes
from jobtrail.callers import SCOPES, Caller, Scope
from jobtrail.embed.opened import Opened, Parts
from jobtrail.errors import ForbiddenError
from jobtrail.jobs.services import Services
from jobtrail.redaction import Redaction

Guard = params.Depends | Sequence[params.Depends] | Literal["open"] | None
"""What a group of calls asks of callers; None: there are no such calls."""


def host_routes(parts: Parts, opened: Callable[[], Opened], asked: Mapping[Scope, Guard]) -> APIRouter:
    """The groups of calls that have a guard. Raises TypeError for anything else."""
    guards = {scope: _dependencies(scope, guard) for scope, guard in asked.items() if guard is not None}
    # a caller that passes the guard of `operate` may see tracebacks
    trusted = "operate" in guards and guards.get("read") == guards["operate"]
    return routes(HostContext(opened, HostAccess(parts, trusted)), guards)


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
    """Access as the guards of the host decide it. `trusted`: callers that may read may operate too."""

    parts: Parts
    trusted: bool

    async def admit(self, request: Request, needs: Collection[Scope]) -> None:  # noqa: ARG002 - the protocol's
        """The host's guards ask, later; they may read other names of the query than ours."""
        request.scope[OTHER_NAMES] = True

    async def confirm(self, request: Request, needs: Sequence[Scope]) -> None:
        """A caller that passed a guard may do what it guards, unless `who` gives fewer scopes."""
        granted: set[Scope] = {"read", "submit", *needs[:1]}
        unnamed = Caller("anonymous", frozenset(SCOPES if self.trusted else granted))
        caller = request.scope[CALLER] = self.parts.caller(request, unnamed)
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
    def streams(self) -> int:
        return self.opened().settings.streams

    @property
    def stream_max(self) -> timedelta:
        return self.opened().settings.stream_max

    @property
    def redaction(self) -> Redaction:
        return self.opened().redaction
