import math
from typing import Any

import pytest

from jobtrail import Retry
from jobtrail.job.errors import DeclarationError


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
        ({"on": ()}, "write retry=None on the task instead"),
    ],
    ids=str,
)
def test_what_is_impossible_is_refused_with_its_fix(options: dict[str, Any], fix: str) -> None:
    with pytest.raises(DeclarationError, match=fix):
        Retry(**options)
