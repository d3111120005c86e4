import copy
import math
import pickle
from datetime import timedelta
from typing import Any

import pytest

from jobtrail import Again, Fail, Retry
from jobtrail.errors import DeclarationError
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


class NoSuchCustomer(Fail):
    def __init__(self, number: int) -> None:
        super().__init__(f"customer {number} is gone", type="no-such-customer")
        self.number = number


@pytest.mark.parametrize(
    ("asked", "seconds", "message"),
    [
        (Again(), None, "the task asked for another attempt"),
        (Again(0), 0, "the task asked for another attempt"),
        (Again(after=1.5, message="busy"), 1.5, "busy"),
        (Again(timedelta(minutes=2)), 120, "the task asked for another attempt"),
        (Again(message="later"), None, "later"),
        (Again(2_592_000), 2_592_000, "the task asked for another attempt"),
    ],
    ids=repr,
)
def test_a_task_asks_for_another_attempt(asked: Again, seconds: float | None, message: str) -> None:
    assert (asked.after_seconds, str(asked)) == (seconds, message)
    assert asked.after_seconds is None or type(asked.after_seconds) is float


@pytest.mark.parametrize(
    ("asked", "kind", "message"),
    [
        (Fail(), "Fail", "the task gave up"),
        (Fail("no such customer"), "Fail", "no such customer"),
        (Fail("gone", type="no-such-customer"), "no-such-customer", "gone"),
        (Fail(type="x" * 200), "x" * 200, "the task gave up"),
        (NoSuchCustomer(7), "no-such-customer", "customer 7 is gone"),
    ],
    ids=repr,
)
def test_a_task_gives_up(asked: Fail, kind: str, message: str) -> None:
    assert (asked.type, str(asked)) == (kind, message)


@pytest.mark.parametrize(
    ("ask", "said", "error", "fix"),
    [
        (Again, {"after": "soon"}, TypeError, r"a text is the message: write Again\(message='soon'\)"),
        (Again, {"after": True}, TypeError, "after=True.*write seconds or a timedelta"),
        (Again, {"after": 1j}, TypeError, "write seconds or a timedelta"),
        (Again, {"after": -0.1}, ValueError, r"after=-0.1\): write from 0 to 2592000 seconds"),
        (Again, {"after": 2_592_001}, ValueError, "write from 0 to 2592000"),
        (Again, {"after": math.nan}, ValueError, "write from 0 to 2592000"),
        (Again, {"after": math.inf}, ValueError, "write from 0 to 2592000"),
        (Again, {"after": timedelta(seconds=-1)}, ValueError, "write from 0 to 2592000"),
        (Again, {"after": timedelta(days=31)}, ValueError, "write from 0 to 2592000"),
        (Again, {"message": OSError()}, TypeError, r"Again\(message=OSError\(\)\).*str\(error\)"),
        (Fail, {"message": OSError()}, TypeError, r"Fail\(message=OSError\(\)\).*str\(error\)"),
        (Fail, {"message": None}, TypeError, "write a text"),
        (Fail, {"type": ""}, ValueError, "has 0 characters: write 1 to 200"),
        (Fail, {"type": "x" * 201}, ValueError, "has 201 characters: write 1 to 200"),
        (Fail, {"type": OSError}, TypeError, "write a text, such as"),
    ],
    ids=named,
)
def test_an_impossible_ask_is_refused_with_its_fix(
    ask: Any, said: dict[str, Any], error: type[Exception], fix: str
) -> None:
    with pytest.raises(error, match=fix):
        ask(**said)


@pytest.mark.parametrize("asked", [Again(), Again(3, "busy"), Fail(), Fail("x", type="y"), NoSuchCustomer(7)], ids=repr)
@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_an_ask_survives_the_way_to_another_process(asked: Exception, protocol: int) -> None:
    asked.add_note("said on the way")
    for again in (pickle.loads(pickle.dumps(asked, protocol)), copy.copy(asked)):  # noqa: S301 - our own
        assert type(again) is type(asked)
        assert (again.args, vars(again), str(again)) == (asked.args, vars(asked), str(asked))
