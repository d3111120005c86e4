"""What a performance becomes of its job: every way to end, with and without attempts left."""

import asyncio
from datetime import timedelta

import pytest

from jobtrail import Again, Fail, Retry
from jobtrail.ids import new_job_id
from jobtrail.records import Claimed
from jobtrail.task import outcome as out

RETRY = Retry(base=8, factor=1, max=8, jitter=0, on=(OSError,))
PICKY = Retry(on=(OSError,), give_up_on=(PermissionError,))
WHOLE = Retry(on=(ExceptionGroup,))


def judged(
    performance: out.Performance, *, attempt: int = 1, retry: Retry | None = RETRY, cancel: bool = False
) -> out.Outcome:
    claimed = Claimed(new_job_id(), attempt, "t", {}, "0" * 32, 2, None, "ann")
    return out.judge(performance, claimed, retry, cancel_requested=cancel)


def of(error: BaseException, *, retry: Retry | None = RETRY) -> out.Raised:
    return out.raised(error, 1, retry)


@pytest.mark.parametrize(
    ("performance", "kind", "type_", "delay"),
    [
        (of(OSError("x")), out.Retried, "OSError", 8),
        (of(ValueError("x")), out.Failed, "ValueError", None),
        (of(asyncio.CancelledError()), out.Failed, "CancelledError", None),
        (of(Again()), out.Retried, "Again", 8),
        (of(Again(after=3)), out.Retried, "Again", 3),
        (of(Again(after=0)), out.Retried, "Again", 0),
        (of(Again(after=timedelta(minutes=1))), out.Retried, "Again", 60),
        (of(Fail("x")), out.Failed, "Fail", None),
        (of(Fail("x", type="no-such-customer")), out.Failed, "no-such-customer", None),
        # of a group every leaf counts; one that is alone is told as itself
        (of(ExceptionGroup("g", [OSError("x")])), out.Retried, "OSError", 8),
        (
            of(ExceptionGroup("g", [ExceptionGroup("h", [OSError("x"), TimeoutError()])])),
            out.Retried,
            "ExceptionGroup",
            8,
        ),
        (of(ExceptionGroup("g", [OSError("x"), ValueError("y")])), out.Failed, "ExceptionGroup", None),
        (of(ExceptionGroup("g", [OSError("x"), ExceptionGroup("h", [Fail("y")])])), out.Failed, "ExceptionGroup", None),
        (of(ExceptionGroup("g", [OSError(), PermissionError()]), retry=PICKY), out.Failed, "ExceptionGroup", None),
        (of(ExceptionGroup("g", [ValueError(), KeyError()]), retry=WHOLE), out.Retried, "ExceptionGroup", 8),
        (of(ExceptionGroup("g", [Fail("y", type="gone")])), out.Failed, "gone", None),
        (of(ExceptionGroup("g", [Again(after=3), Again(after=5), OSError()])), out.Retried, "ExceptionGroup", 5),
        (of(ExceptionGroup("g", [Again(after=3), ValueError()])), out.Failed, "ExceptionGroup", None),
        (of(ExceptionGroup("g", [Again(after=3), Fail()])), out.Failed, "ExceptionGroup", None),
        (of(BaseExceptionGroup("g", [OSError(), asyncio.CancelledError()])), out.Failed, "BaseExceptionGroup", None),
        # TimeoutError is an OSError; what the task raised when it was told does not count
        (out.TimedOut(5, of(asyncio.CancelledError())), out.Retried, "timeout", 8),
        (out.TimedOut(5, of(Fail("x"))), out.Retried, "timeout", 8),
        (out.Interrupted(of(ValueError("x"))), out.Retried, "lost", 0),
        (out.Interrupted(of(Fail("x"))), out.Retried, "lost", 0),
    ],
)
def test_with_an_attempt_left(
    performance: out.Performance, kind: type[out.Outcome], type_: str, delay: float | None
) -> None:
    outcome = judged(performance)
    assert isinstance(outcome, kind)
    assert not isinstance(outcome, out.Succeeded)
    assert outcome.failure.type == type_
    assert (outcome.delay.total_seconds() if isinstance(outcome, out.Retried) else None) == delay
    last = judged(performance, attempt=2)
    assert isinstance(last, out.Failed)
    assert last.failure.type == type_


def test_after_a_checkpoint_the_end_of_the_node_costs_no_attempt() -> None:
    for attempt in (1, 2):
        assert judged(out.Interrupted(of(ValueError("x")), resumes=True), attempt=attempt) == out.Released("drained")
    late = out.TimedOut(5, of(asyncio.CancelledError()))
    assert isinstance(judged(late, attempt=2), out.Failed)


def test_the_back_off_goes_by_the_attempts_that_were_spent() -> None:
    growing = Retry(base=1, factor=2, max=100, jitter=0)
    claimed = Claimed(new_job_id(), 9, "t", {}, "0" * 32, 10, None, "ann", given_back=6)
    outcome = out.judge(of(OSError("x"), retry=growing), claimed, growing, cancel_requested=False)
    assert isinstance(outcome, out.Retried)
    assert outcome.delay.total_seconds() == growing.delay(3, 0.5)


def test_the_leaves_of_a_group_are_listed() -> None:
    group = ExceptionGroup("two went wrong", [OSError("first"), ExceptionGroup("inside", [KeyError("second")])])
    assert of(group).failure.message == "two went wrong (2 sub-exceptions): OSError: first; KeyError: 'second'"
    many = of(ExceptionGroup("many", [ValueError("x" * 10_000)] * 30)).failure.message
    assert len(many.encode()) <= 16 * 1024
    longer = of(ExceptionGroup("many", [ValueError(f"{n}" * 10_000) for n in range(30)])).failure.message
    assert longer.endswith("; and 10 more")
    assert len(longer.encode()) <= 16 * 1024


def test_without_a_retry_only_the_task_itself_asks_for_more() -> None:
    late = out.TimedOut(2.5, of(OSError("x"), retry=None))
    performances = [of(OSError("x"), retry=None), late, of(Again(after=3), retry=None), of(Again(), retry=None)]
    outcomes = [judged(each, retry=None) for each in performances]
    assert [type(each) for each in outcomes] == [out.Failed, out.Failed, out.Retried, out.Retried]
    failure = outcomes[1].failure  # type: ignore[union-attr]
    assert failure.message == "attempt 1 took longer than 2.5 s"
    assert "OSError: x" in (failure.traceback or "")


@pytest.mark.parametrize("error", [ValueError("x"), OSError("x"), Again(after=1), Fail("x")])
def test_after_a_delivered_cancel_every_error_is_its_doing(error: Exception) -> None:
    outcome = judged(of(error), cancel=True)
    assert isinstance(outcome, out.Cancelled)
    assert outcome.failure.message == str(error)
    assert judged(out.Returned("1"), cancel=True) == out.Succeeded("1")


def test_a_result_that_cannot_be_stored_is_never_retried() -> None:
    for value, type_ in ((object(), "result-not-json"), ("x" * 100, "result-too-large")):
        ended = out.returned(value, 1, 50)
        assert isinstance(ended, out.Raised)
        assert (ended.failure.type, ended.retried) == (type_, False)
    assert out.returned(None, 1, 50) == out.Returned(None)
    assert out.returned({"a": 1}, 1, 50) == out.Returned('{"a":1}')
