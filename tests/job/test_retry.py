import math
from typing import Any

import pytest

from jobtrail import Retry
from jobtrail.job.errors import DeclarationError
from support.names import named


@pytest.mark.parametrize(
    ("retry", "waits"),
    [
        (Retry(), [1, 2, 4, 8, 16]),
        (Retry(base=0.5, factor=3, max=10), [0.5, 1.5, 4.5, 10, 10]),
        (Retry(base=5, factor=1), [5, 5, 5, 5, 5]),
        (Retry(base=0), [0, 0, 0, 0, 0]),
        (Retry(base=7, max=7), [7, 7, 7, 7, 7]),
    ],
)
def test_waits_grow_up_to_the_longest(retry: Retry, waits: list[float]) -> None:
    assert [retry.delay(attempt, 0.5) for attempt in range(1, 6)] == waits


@pytest.mark.parametrize(("random", "wait"), [(0, 8), (0.25, 9), (0.5, 10), (1, 12)])
def test_jitter_spreads_to_both_sides(random: float, wait: float) -> None:
    assert Retry(base=10, jitter=0.2).delay(1, random) == pytest.approx(wait)


def test_without_jitter_chance_has_no_say() -> None:
    assert {Retry(jitter=0).delay(3, random) for random in (0, 0.3, 1)} == {4}


@pytest.mark.parametrize("factor", [2, 1e300, 10**400])
@pytest.mark.parametrize("attempt", [1000, 10**9])
def test_no_attempt_overflows(factor: float, attempt: int) -> None:
    assert Retry(factor=factor, max=60).delay(attempt, 0.5) == 60
    assert Retry(factor=factor, base=0).delay(attempt, 0.5) == 0


def test_only_listed_errors_are_retried() -> None:
    retry = Retry(on=(TimeoutError, KeyError))
    assert [retry.retries(error) for error in (TimeoutError(), KeyError(), OSError(), SystemExit())] == [
        True,
        True,
        False,
        False,
    ]
    assert Retry().retries(OSError())
    assert not Retry().retries(SystemExit())


@pytest.mark.parametrize(
    ("error", "retried"),
    [(OSError(), True), (TimeoutError(), True), (PermissionError(), False), (KeyError(), False), (SystemExit(), False)],
    ids=repr,
)
def test_errors_to_give_up_on_are_final_although_their_base_is_listed(error: BaseException, retried: bool) -> None:
    assert Retry(on=(OSError,), give_up_on=(PermissionError, ValueError)).retries(error) is retried


@pytest.mark.parametrize(
    ("options", "fix"),
    [
        ({"base": -1}, r"Retry\(base=-1\): write a number, from 0 to 2592000"),
        ({"base": math.nan}, "base=nan.*write a number"),
        ({"base": "1"}, "base='1'.*write a number"),
        ({"base": True}, "base=True.*write a number"),
        ({"base": None}, "base=None.*write a number"),
        ({"factor": 0.5}, "factor=0.5.*at least 1"),
        ({"factor": math.inf}, "factor=inf.*at least 1"),
        ({"factor": math.nan}, "factor=nan.*at least 1"),
        ({"max": -1}, "max=-1.*from 0"),
        ({"max": math.inf}, "max=inf.*from 0"),
        ({"max": 0.5}, "max=0.5.*less than base=1.0: raise max or lower base"),
        ({"jitter": -0.1}, "jitter=-0.1.*from 0 to 1"),
        ({"jitter": 1.1}, "jitter=1.1.*from 0 to 1"),
        ({"jitter": math.nan}, "jitter=nan.*from 0 to 1"),
        ({"on": TimeoutError}, r"write a tuple, on=\(TimeoutError,\)"),
        ({"on": [TimeoutError]}, "write a tuple of exception classes"),
        ({"on": (TimeoutError())}, "write a tuple of exception classes"),
        ({"on": (TimeoutError, "x")}, "write a tuple of exception classes"),
        ({"on": (int,)}, "write a tuple of exception classes"),
        ({"on": int}, "write a tuple of exception classes"),
        ({"on": ()}, "write retry=None on a task"),
        ({"on": (BaseException,)}, "write Exception, and name any other"),
        ({"on": (OSError, BaseException)}, "write Exception, and name any other"),
        ({"give_up_on": OSError}, r"write a tuple, give_up_on=\(OSError,\)"),
        ({"give_up_on": [OSError]}, r"Retry\(give_up_on=.*write a tuple of exception classes"),
        ({"give_up_on": (OSError, "x")}, "write a tuple of exception classes"),
        ({"give_up_on": None}, "write a tuple of exception classes"),
        ({"give_up_on": (Exception,)}, "covers all of on=.*name narrower errors"),
        ({"give_up_on": (BaseException,)}, "covers all of on=.*name narrower errors"),
        ({"on": (TimeoutError, KeyError), "give_up_on": (OSError, LookupError)}, "covers all of on="),
        ({"max_attempts": 1}, r"max_attempts=1\): write a whole number from 2 to 1000"),
        ({"max_attempts": 0}, "from 2 to 1000"),
        ({"max_attempts": 1001}, "from 2 to 1000"),
        ({"max_attempts": 3.0}, "from 2 to 1000"),
        ({"max_attempts": True}, "from 2 to 1000"),
        ({"max_attempts": "3"}, "from 2 to 1000"),
        ({"base": len}, r"needs its parentheses: write @Retry\(\)"),
    ],
    ids=named,
)
def test_what_is_impossible_is_refused_with_its_fix(options: dict[str, Any], fix: str) -> None:
    with pytest.raises(DeclarationError, match=fix):
        Retry(**options)


def test_what_can_act_at_all_is_taken() -> None:
    retry = Retry(on=(OSError, KeyError), give_up_on=(OSError,), max_attempts=2)
    assert retry.retries(KeyError())
    assert Retry(max_attempts=1000) == Retry(max_attempts=1000)
