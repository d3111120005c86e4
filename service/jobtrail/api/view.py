"""What of a job a caller is shown."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from starlette.requests import Request

from jobtrail.api.context import ApiContext
from jobtrail.job.redaction import NOTHING, Redaction

_TRACEBACK: Final = re.compile(r'^[^\n]*(?:\(most recent call last\):|File "[^"\n]*", line [0-9])', re.MULTILINE)
"""Its first line; or a later one, where a long text lost its middle."""

_WITHHELD: Final = "[a traceback, for who may operate]"


@dataclass(frozen=True, slots=True)
class View:
    """`only_of`: of the jobs of others there is nothing to be seen; None: of all."""

    redaction: Redaction
    tracebacks: bool
    only_of: str | None = None

    @classmethod
    def of(cls, context: ApiContext, request: Request) -> "View":
        caller = context.access.caller(request)
        return cls(context.redaction, caller.operates, None if caller.sees_all else caller.name)

    def error(self, error: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
        if self.tracebacks or not isinstance(error, Mapping) or "traceback" not in error:
            return error
        return {name: value for name, value in error.items() if name != "traceback"}

    def message(self, said: str) -> str:
        """A line of a job's log, in which a traceback comes last."""
        if self.tracebacks or (found := _TRACEBACK.search(said)) is None:
            return said
        return said[: found.start()] + _WITHHELD


WHOLE: Final = View(NOTHING, tracebacks=True)
"""Everything, for who sits at the database."""
