"""A host's own function, called after each attempt whose end was recorded here."""

import inspect
import logging
from collections.abc import Awaitable, Callable

from jobtrail.logs import bind
from jobtrail.records import AttemptEnd

log = logging.getLogger(__name__)

Hook = Callable[[AttemptEnd], Awaitable[object] | object]
"""A `def` is called on the event loop; what it returns is awaited if it can be."""


async def call(hook: Hook, end: AttemptEnd) -> None:
    """Whatever it raises is logged: the end of the attempt stands."""
    with bind(job_id=str(end.job_id), task=end.task, attempt=end.attempt, trace_id=end.trace_id):
        try:
            result = hook(end)
            if inspect.isawaitable(result):
                await result
        except (Exception, SystemExit):
            log.exception("on_attempt_end raised after attempt %d of job %s", end.attempt, end.job_id)
