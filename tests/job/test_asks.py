import copy
import math
import pickle
from datetime import timedelta
from typing import Any

import pytest

from jobtrail import Again, Fail
from support.names import named


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
def test_what_is_impossible_is_refused_with_its_fix(
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


@pytest.mark.parametrize("asked", [Again, Fail, Again(1), Fail("x", type="y")], ids=repr)
def test_an_ask_names_its_cause(asked: Any) -> None:
    cause = OSError("the disk")
    with pytest.raises((Again, Fail)) as caught:
        raise asked from cause
    assert caught.value.__cause__ is cause
