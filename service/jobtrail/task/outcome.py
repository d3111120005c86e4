"""The outcome of an attempt: decided here, in plain code, and written elsewhere.

A result or an exception is described in the thread or process of the task. Only the description travels, because an
exception may not survive pickling.
"""

import random
import traceback
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Final

from jobtrail.errors import JobtrailError, NotStorableError, ResultNotJsonError, ResultTooLargeError
from jobtrail.records import Claimed, Failure
from jobtrail.task.retry import Fail, Retry, asked_wait, is_retried, leaves_of
from jobtrail.task.storable import clip, message_of, result_to_json

LOST: Final = "lost"
TIMEOUT: Final = "timeout"

_NAMED: Final = (JobtrailError, Fail)
"""Errors that may have a type of their own, other than the name of their class."""


@dataclass(frozen=True, slots=True)
class Returned:
    """The task ended with a value; its JSON text, or None."""

    result: str | None


@dataclass(frozen=True, slots=True)
class Raised:
    """The task ended with an exception, of whatever kind.

    `retried`: the task's Retry, or the task itself, asks for another attempt; `after`: seconds until then, if given.
    """

    failure: Failure
    retried: bool = False
    after: float | None = None


@dataclass(frozen=True, slots=True)
class TimedOut:
    """The attempt took longer than the job allows; `raised` is how the task ended then."""

    seconds: float
    raised: Raised


@dataclass(frozen=True, slots=True)
class Interrupted:
    """The node had to end before the task did. `resumes`: the next attempt can go on from a checkpoint of this one."""

    raised: Raised
    resumes: bool = False


@dataclass(frozen=True, slots=True)
class NotBegun:
    """The node had to end before the task began."""


Ended = Returned | Raised
Performance = Ended | TimedOut | Interrupted | NotBegun


@dataclass(frozen=True, slots=True)
class Succeeded:
    result: str | None


@dataclass(frozen=True, slots=True)
class Failed:
    failure: Failure


@dataclass(frozen=True, slots=True)
class Retried:
    """The job goes back to pending, for another attempt after `delay`."""

    failure: Failure
    delay: timedelta


@dataclass(frozen=True, slots=True)
class Cancelled:
    failure: Failure


@dataclass(frozen=True, slots=True)
class Released:
    """Handed back as if it had not been claimed: the attempt does not count against `max_attempts`.

    `why`: `released`, before it began, or `drained`, after a checkpoint.
    """

    why: str = "released"


Outcome = Succeeded | Failed | Retried | Cancelled | Released


def returned(value: object, attempt: int, max_result: int) -> Ended:
    """`max_result` in bytes of JSON. A result that cannot be stored is a failure that no attempt would mend."""
    try:
        return Returned(None if value is None else result_to_json(value, max_result))
    except (ResultNotJsonError, ResultTooLargeError) as error:
        return Raised(Failure(error.type, clip(str(error)), None, attempt))


def raised(error: BaseException, attempt: int, retry: Retry | None) -> Raised:
    """`retry` None means that errors are final. Never raises."""
    try:
        return Raised(failure_of(error, attempt), retried=is_retried(error, retry), after=asked_wait(error))
    except BaseException as worse:  # noqa: BLE001 - an exception's class may do anything when it is looked at
        name, message = type(error).__qualname__, f"<the error cannot be shown: {type(worse).__qualname__}>"
        return Raised(Failure(clip(name, 200), message, None, attempt))


def judge(performance: Performance, claimed: Claimed, retry: Retry | None, *, cancel_requested: bool) -> Outcome:
    """A normal return succeeds even after a delivered cancel; any exception after one is the cancel's doing.

    `retry` None means that errors are final, unless the task itself asks for another attempt.
    """
    has_attempts = claimed.attempt < claimed.max_attempts
    match performance:
        case Returned(result):
            return Succeeded(result)
        case NotBegun():
            return Released()
        case Interrupted():
            return _interrupted(performance, has_attempts=has_attempts)
        case TimedOut():
            ended = _timed_out(performance, retry)
        case _:
            ended = performance
    if cancel_requested:
        return Cancelled(ended.failure)
    if not (ended.retried and has_attempts):
        return Failed(ended.failure)
    delay = ended.after
    if delay is None:
        spent = claimed.attempt - claimed.given_back
        delay = (retry or Retry()).delay(spent, random.random())  # noqa: S311 - jitter is no secret
    return Retried(ended.failure, timedelta(seconds=delay))


def in_ascii(outcome: Outcome, error: NotStorableError, attempt: int) -> Outcome:
    """The same in ASCII alone, which a database of any encoding holds. A result is not rewritten: it becomes a failure,
    which no attempt would mend.
    """
    match outcome:
        case Succeeded():
            return Failed(Failure(error.type, _ascii(str(error)), None, attempt))
        case Released():
            return outcome
        case _:
            failure = outcome.failure
            traceback_ = failure.traceback and _ascii(failure.traceback)
            ascii_failure = Failure(_ascii(failure.type), _ascii(failure.message), traceback_, failure.attempt)
            return replace(outcome, failure=ascii_failure)


def _ascii(text: str) -> str:
    return clip(text.encode("ascii", "backslashreplace").decode())


def failure_of(error: BaseException, attempt: int) -> Failure:
    """The error as it is stored: texts clipped and free of what PostgreSQL refuses. Never raises.

    A group of one error is stored as that one; the traceback shows them both.
    """
    leaves = leaves_of(error)
    shown = leaves[0] if len(leaves) == 1 else error
    type_ = getattr(shown, "type", None) if isinstance(shown, _NAMED) else None
    return Failure(
        type=clip(type_ or type(shown).__qualname__, 200),
        message=clip(_listed(shown, leaves) if isinstance(shown, BaseExceptionGroup) else message_of(shown)),
        traceback=clip(_traceback_of(error)),
        attempt=attempt,
        cause=error,
    )


_LISTED: Final = 20
_LEAF_BYTES: Final = 500
"""Twenty of them fit into the message of an error; beyond that a number says how many there are."""


def _listed(group: BaseException, leaves: Sequence[BaseException]) -> str:
    """The group's own message and, behind it, type and message of its leaves, as many as are read. Never raises."""
    lines = [clip(f"{type(each).__qualname__}: {message_of(each)}", _LEAF_BYTES) for each in leaves[:_LISTED]]
    if len(leaves) > _LISTED:
        lines.append(f"and {len(leaves) - _LISTED} more")
    return f"{clip(message_of(group), _LEAF_BYTES)}: {'; '.join(lines)}"


def without_cause(ended: Ended) -> Ended:
    """Without the exception, which may not survive the way to another process."""
    if isinstance(ended, Returned):
        return ended
    return replace(ended, failure=replace(ended.failure, cause=None))


class _Described(Exception):  # noqa: N818 - it stands for an error, whose name it bears
    """An error of another process, of which this one has only the description."""


class _Traceback(Exception):  # noqa: N818 - shown as the cause, as concurrent.futures does
    def __str__(self) -> str:
        return f"\n{self.args[0]}"


def exception_of(failure: Failure) -> BaseException:
    """The exception itself, or one of the same name and message whose cause is its traceback as text."""
    if failure.cause is not None:
        return failure.cause
    made: BaseException = type(failure.type, (_Described,), {})(failure.message)
    made.__cause__ = None if failure.traceback is None else _Traceback(failure.traceback)
    return made


def _interrupted(cut: Interrupted, *, has_attempts: bool) -> Outcome:
    """The node's end is not an error of the task: with attempts left the job runs again, whatever its retry says."""
    if cut.resumes:
        return Released("drained")
    message = f"the node shut down during attempt {cut.raised.failure.attempt}"
    lost = replace(cut.raised.failure, type=LOST, message=message, cause=None)
    return Retried(lost, timedelta(0)) if has_attempts else Failed(lost)


def _timed_out(late: TimedOut, retry: Retry | None) -> Raised:
    """A timeout is a TimeoutError for the task's Retry, whatever the task raised when it was stopped."""
    message = f"attempt {late.raised.failure.attempt} took longer than {late.seconds:g} s"
    error = TimeoutError(message)
    error.__cause__ = late.raised.failure.cause
    failure = replace(late.raised.failure, type=TIMEOUT, message=message, cause=error)
    return Raised(failure, retried=retry is not None and retry.retries(error))


def _traceback_of(error: BaseException) -> str:
    try:
        return "".join(traceback.format_exception(error))
    except BaseException as worse:  # noqa: BLE001 - formatting calls __str__ of the error and of its causes
        frames = "".join(traceback.format_tb(error.__traceback__))
        return f"{frames}{type(error).__qualname__}: <the message cannot be shown: {type(worse).__qualname__}>"
