"""From what a task did to what becomes of its job: decided here, in plain code, and written elsewhere."""

import random
import traceback
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

from jobtrail.job.errors import ResultNotJsonError, ResultTooLargeError
from jobtrail.job.record import Claimed, Failure
from jobtrail.job.retry import Retry
from jobtrail.job.storable import clip, result_to_json

LOST: Final = "lost"
TIMEOUT: Final = "timeout"


@dataclass(frozen=True, slots=True)
class Returned:
    """The task ended with a value."""

    value: Any


@dataclass(frozen=True, slots=True)
class Raised:
    """The task ended with an exception, of whatever kind."""

    error: BaseException


@dataclass(frozen=True, slots=True)
class TimedOut:
    """The attempt took longer than the job allows; `error` is what the task made of it."""

    seconds: float
    error: BaseException


@dataclass(frozen=True, slots=True)
class Interrupted:
    """The node had to end before the task did."""

    error: BaseException


Performance = Returned | Raised | TimedOut | Interrupted


@dataclass(frozen=True, slots=True)
class Succeeded:
    result: str | None


@dataclass(frozen=True, slots=True)
class Failed:
    failure: Failure


@dataclass(frozen=True, slots=True)
class Again:
    failure: Failure
    delay: timedelta


@dataclass(frozen=True, slots=True)
class Cancelled:
    failure: Failure


Outcome = Succeeded | Failed | Again | Cancelled


def judge(
    performance: Performance, claimed: Claimed, retry: Retry | None, *, cancel_delivered: bool, max_result: int
) -> Outcome:
    """A normal return succeeds even after a delivered cancel; any exception after one is the cancel's doing.

    `retry` None means that errors are final. `max_result` in bytes of JSON.
    """
    if isinstance(performance, Returned):
        return _judge_result(performance.value, claimed, max_result)
    if isinstance(performance, Interrupted):
        return _judge_lost(performance.error, claimed)
    failure = _failure_of(performance, claimed.attempt)
    if cancel_delivered:
        return Cancelled(failure)
    if retry is not None and claimed.attempt < claimed.max_attempts and retry.retries(performance.error):
        return Again(failure, timedelta(seconds=retry.delay(claimed.attempt, random.random())))  # noqa: S311 - jitter
    return Failed(failure)


def failure_of(error: BaseException, attempt: int, *, type_: str | None = None, message: str | None = None) -> Failure:
    """The error as it is stored: texts clipped and free of what PostgreSQL refuses. Never raises."""
    return Failure(
        type=clip(type_ or type(error).__qualname__, 200),
        message=clip(_message_of(error) if message is None else message),
        traceback=clip(_traceback_of(error)),
        attempt=attempt,
    )


def _failure_of(performance: Raised | TimedOut, attempt: int) -> Failure:
    if isinstance(performance, Raised):
        return failure_of(performance.error, attempt)
    message = f"attempt {attempt} took longer than {performance.seconds:g} s"
    return failure_of(performance.error, attempt, type_=TIMEOUT, message=message)


def _judge_lost(error: BaseException, claimed: Claimed) -> Outcome:
    """The node's end is not an error of the task: with attempts left the job runs again, whatever its retry says."""
    message = f"the node shut down during attempt {claimed.attempt}"
    failure = failure_of(error, claimed.attempt, type_=LOST, message=message)
    return Again(failure, timedelta(0)) if claimed.attempt < claimed.max_attempts else Failed(failure)


def _judge_result(value: Any, claimed: Claimed, max_result: int) -> Outcome:
    try:
        return Succeeded(None if value is None else result_to_json(value, max_result))
    except (ResultNotJsonError, ResultTooLargeError) as error:
        return Failed(Failure(error.type, clip(str(error)), None, claimed.attempt))


def _message_of(error: BaseException) -> str:
    try:
        return str(error)
    except BaseException as worse:  # noqa: BLE001 - the task's own __str__ may do anything
        return f"<the message cannot be shown: __str__ raised {type(worse).__qualname__}>"


def _traceback_of(error: BaseException) -> str:
    try:
        return "".join(traceback.format_exception(error))
    except BaseException as worse:  # noqa: BLE001 - formatting calls __str__ of the error and of its causes
        frames = "".join(traceback.format_tb(error.__traceback__))
        return f"{frames}{type(error).__qualname__}: <the message cannot be shown: {type(worse).__qualname__}>"
