import copy
import math
import pickle
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobtrail import Again, Fail, Retry
from jobtrail.errors import DeclarationError
from support.names import named


@given(st.floats(0, 100), st.floats(1, 1e300), st.floats(100, 3600), st.floats(0, 1), st.floats(0, 1))
@settings(deadline=None)
def test_waits_grow_up_to_the_longest_and_spread_to_both_sides(
    base: float, factor: float, longest: float, jitter: float, chance: float
) -> None:
    retry = Retry(base=base, factor=factor, max=longest, jitter=jitter)
    waits = [retry.delay(attempt, 0.5) for attempt in (1, 2, 3, 4, 1000, 10**9)]
    assert (waits[0], waits) == (base, sorted(waits))
    assert all(wait in (0, longest) or wait == pytest.approx(base * factor**n) for n, wait in enumerate(waits[:4]))
    assert waits[-1] <= longest
    assert retry.delay(2, chance) == pytest.approx(waits[1] * (1 + jitter * (2 * chance - 1)))
    assert Retry(base=base, factor=10**400, max=longest).delay(10**9, 0.5) == (longest if base else 0)


EXCEPTIONS = (TimeoutError, [TimeoutError], TimeoutError(), (TimeoutError, "x"), (int,), int, None)
IMPOSSIBLE: dict[str, tuple[Sequence[Any], str]] = {
    "base": ((-1, math.nan, "1", True, None), "write a number, from 0 to 2592000"),
    "factor": ((0.5, math.inf, math.nan), "write a number, at least 1"),
    "max": ((-1, math.inf), "write a number, from 0"),
    "jitter": ((-0.1, 1.1, math.nan), "write a number, from 0 to 1"),
    "on": (EXCEPTIONS, r"write a tuple of exception classes, for example on=\(TimeoutError,\)"),
    "give_up_on": (EXCEPTIONS, r"write a tuple of exception classes, for example give_up_on=\(TimeoutError,\)"),
    "max_attempts": ((1, 0, 1001, 3.0, True, "3"), "write a whole number from 2 to 1000"),
}
AT_ODDS: list[tuple[dict[str, Any], str]] = [
    ({"base": len}, r"needs its parentheses: write @Retry\(\)"),
    ({"max": 0.5}, "max=0.5.*less than base=1.0: raise max or lower base"),
    ({"on": ()}, "write retry=None on a task"),
    ({"on": (OSError, BaseException)}, "write Exception, and name any other"),
    ({"give_up_on": (BaseException,)}, "covers all of on=.*name narrower errors"),
    ({"on": (TimeoutError, KeyError), "give_up_on": (OSError, LookupError)}, "covers all of on="),
]
REFUSED = [({name: value}, rf"Retry\({name}=.*{fix}") for name, (values, fix) in IMPOSSIBLE.items() for value in values]


@pytest.mark.parametrize(("options", "fix"), REFUSED + AT_ODDS, ids=named)
def test_what_is_impossible_is_refused_with_its_fix(options: dict[str, Any], fix: str) -> None:
    with pytest.raises(DeclarationError, match=fix):
        Retry(**options)


class NoSuchCustomer(Fail):
    def __init__(self, number: int) -> None:
        super().__init__(f"customer {number} is gone", type="no-such-customer")
        self.number = number


ASKED_AGAIN, GAVE_UP = "the task asked for another attempt", "the task gave up"


@pytest.mark.parametrize(
    ("asked", "fact", "message"),
    [
        (Again(), None, ASKED_AGAIN),
        (Again(0), 0.0, ASKED_AGAIN),
        (Again(after=1.5, message="busy"), 1.5, "busy"),
        (Again(timedelta(minutes=2)), 120.0, ASKED_AGAIN),
        (Again(2_592_000), 2_592_000.0, ASKED_AGAIN),
        (Fail(), "Fail", GAVE_UP),
        (Fail("gone", type="no-such-customer"), "no-such-customer", "gone"),
        (Fail(type="x" * 200), "x" * 200, GAVE_UP),
        (NoSuchCustomer(7), "no-such-customer", "customer 7 is gone"),
    ],
    ids=repr,
)
def test_a_task_asks_for_another_attempt_or_gives_up(asked: Again | Fail, fact: object, message: str) -> None:
    found = asked.after_seconds if isinstance(asked, Again) else asked.type
    assert (found, type(found), str(asked)) == (fact, type(fact), message)


NO_ASK: dict[tuple[Any, str, type[Exception], str], Sequence[Any]] = {
    (Again, "after", TypeError, r"a text is the message: write Again\(message='soon'\)"): ["soon"],
    (Again, "after", TypeError, "write seconds or a timedelta"): [True, 1j],
    (Again, "after", ValueError, "write from 0 to 2592000 seconds"): [
        *(-0.1, 2_592_001, math.nan, math.inf),
        *(timedelta(seconds=-1), timedelta(days=31)),
    ],
    (Again, "message", TypeError, r"Again\(message=.*write a text; .*str\(error\)"): [OSError(), None],
    (Fail, "message", TypeError, r"Fail\(message=.*write a text; .*str\(error\)"): [OSError(), None],
    (Fail, "type", ValueError, "characters: write 1 to 200"): ["", "x" * 201],
    (Fail, "type", TypeError, "write a text, such as"): [OSError],
}


@pytest.mark.parametrize(
    ("ask", "name", "error", "fix", "value"),
    [(*key, value) for key, values in NO_ASK.items() for value in values],
    ids=named,
)
def test_an_impossible_ask_is_refused_with_its_fix(
    ask: Any, name: str, error: type[Exception], fix: str, value: object
) -> None:
    with pytest.raises(error, match=fix):
        ask(**{name: value})


@pytest.mark.parametrize("asked", [Again(), Again(3, "busy"), Fail(), Fail("x", type="y"), NoSuchCustomer(7)], ids=repr)
@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_an_ask_survives_the_way_to_another_process(asked: Exception, protocol: int) -> None:
    asked.add_note("said on the way")
    for again in (pickle.loads(pickle.dumps(asked, protocol)), copy.copy(asked)):  # noqa: S301 - our own
        assert type(again) is type(asked)
        assert (again.args, vars(again), str(again)) == (asked.args, vars(asked), str(asked))
