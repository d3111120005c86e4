"""What a performance becomes of its job: every way to end, with and without attempts left."""

import asyncio
from datetime import timedelta

import pytest

from jobtrail import Again as AskForAgain
from jobtrail import Fail, Retry
from jobtrail.ids import new_job_id
from jobtrail.records import Claimed
from jobtrail.task.outcome import (
    Again,
    Cancelled,
    Failed,
    Interrupted,
    Outcome,
    Performance,
    Raised,
    Returned,
    Succeeded,
    TimedOut,
    judge,
    raised,
    returned,
)

RETRY = Retry(base=8, factor=1, max=8, jitter=0, on=(OSError,))


def judged(performance: Performance, *, attempt: int = 1, retry: Retry | None = RETRY, cancel: bool = False) -> Outcome:
    claimed = Claimed(new_job_id(), attempt, "t", {}, "0" * 32, 2, None, "ann")
    return judge(performance, claimed, retry, cancel_delivered=cancel)


def of(error: BaseException, *, retry: Retry | None = RETRY) -> Raised:
    return raised(error, 1, retry)


@pytest.mark.parametrize(
    ("performance", "kind", "type_", "delay"),
    [
        (of(OSError("x")), Again, "OSError", 8),
        (of(ValueError("x")), Failed, "ValueError", None),
        (of(asyncio.CancelledError()), Failed, "CancelledError", None),
        (of(AskForAgain()), Again, "Again", 8),
        (of(AskForAgain(after=3)), Again, "Again", 3),
        (of(AskForAgain(after=0)), Again, "Again", 0),
        (of(AskForAgain(after=timedelta(minutes=1))), Again, "Again", 60),
        (of(Fail("x")), Failed, "Fail", None),
        (of(Fail("x", type="no-such-customer")), Failed, "no-such-customer", None),
        # of a group every leaf counts; one that is alone is told as itself
        (of(ExceptionGroup("g", [OSError("x")])), Again, "OSError", 8),
        (of(ExceptionGroup("g", [ExceptionGroup("h", [OSError("x"), TimeoutError()])])), Again, "ExceptionGroup", 8),
        (of(ExceptionGroup("g", [OSError("x"), ValueError("y")])), Failed, "ExceptionGroup", None),
        (of(ExceptionGroup("g", [OSError("x"), ExceptionGroup("h", [Fail("y")])])), Failed, "ExceptionGroup", None),
        (of(ExceptionGroup("g", [Fail("y", type="gone")])), Failed, "gone", None),
        (of(ExceptionGroup("g", [AskForAgain(after=3), AskForAgain(after=5), OSError()])), Again, "ExceptionGroup", 5),
        (of(ExceptionGroup("g", [AskForAgain(after=3), ValueError()])), Failed, "ExceptionGroup", None),
        (of(ExceptionGroup("g", [AskForAgain(after=3), Fail()])), Failed, "ExceptionGroup", None),
        (of(BaseExceptionGroup("g", [OSError(), asyncio.CancelledError()])), Failed, "BaseExceptionGroup", None),
        # TimeoutError is an OSError; what the task raised when it was told does not count
        (TimedOut(5, of(asyncio.CancelledError())), Again, "timeout", 8),
        (TimedOut(5, of(Fail("x"))), Again, "timeout", 8),
        (Interrupted(of(ValueError("x"))), Again, "lost", 0),
        (Interrupted(of(Fail("x"))), Again, "lost", 0),
    ],
)
def test_with_an_attempt_left(performance: Performance, kind: type[Outcome], type_: str, delay: float | None) -> None:
    outcome = judged(performance)
    assert isinstance(outcome, kind)
    assert not isinstance(outcome, Succeeded)
    assert outcome.failure.type == type_
    assert (outcome.delay.total_seconds() if isinstance(outcome, Again) else None) == delay
    last = judged(performance, attempt=2)
    assert isinstance(last, Failed)
    assert last.failure.type == type_


def test_the_leaves_of_a_group_are_listed() -> None:
    group = ExceptionGroup("two went wrong", [OSError("first"), ExceptionGroup("inside", [KeyError("second")])])
    assert of(group).failure.message == "two went wrong (2 sub-exceptions): OSError: first; KeyError: 'second'"
    many = of(ExceptionGroup("many", [ValueError("x" * 10_000)] * 30)).failure.message
    assert len(many.encode()) <= 16 * 1024
    longer = of(ExceptionGroup("many", [ValueError(f"{n}" * 10_000) for n in range(30)])).failure.message
    assert longer.endswith("; and 10 more")
    assert len(longer.encode()) <= 16 * 1024


def test_without_a_retry_only_the_task_itself_asks_for_more() -> None:
    assert isinstance(judged(of(OSError("x"), retry=None), retry=None), Failed)
    assert isinstance(judged(TimedOut(5, of(OSError("x"), retry=None)), retry=None), Failed)
    assert isinstance(judged(of(AskForAgain(after=3), retry=None), retry=None), Again)
    assert isinstance(judged(of(AskForAgain(), retry=None), retry=None), Again)


@pytest.mark.parametrize("error", [ValueError("x"), OSError("x"), AskForAgain(after=1), Fail("x")])
def test_after_a_delivered_cancel_every_error_is_its_doing(error: Exception) -> None:
    outcome = judged(of(error), cancel=True)
    assert isinstance(outcome, Cancelled)
    assert outcome.failure.message == str(error)


def test_a_normal_return_after_a_delivered_cancel_has_succeeded() -> None:
    assert judged(Returned("1"), cancel=True) == Succeeded("1")


def test_what_is_told_of_a_timeout() -> None:
    outcome = judged(TimedOut(2.5, of(ValueError("x"))), retry=None)
    assert isinstance(outcome, Failed)
    assert outcome.failure.message == "attempt 1 took longer than 2.5 s"
    assert "ValueError: x" in (outcome.failure.traceback or "")


def test_a_result_that_cannot_be_stored_is_never_retried() -> None:
    for value, type_ in ((object(), "result-not-json"), ("x" * 100, "result-too-large")):
        ended = returned(value, 1, 50)
        assert isinstance(ended, Raised)
        assert (ended.failure.type, ended.retried) == (type_, False)
    assert returned(None, 1, 50) == Returned(None)
    assert returned({"a": 1}, 1, 50) == Returned('{"a":1}')
