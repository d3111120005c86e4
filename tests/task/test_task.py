import inspect
import re
from types import ModuleType
from typing import Any
from uuid import UUID

import pytest
from starlette.background import BackgroundTasks

from jobtrail import JobContext, Retry, Task, task
from jobtrail.errors import DeclarationError, UnknownTaskError
from jobtrail.task.catalog import Catalog
from support.decorated import decorated
from support.names import named


async def on_the_loop(context: JobContext, n: int, x: str = "a") -> dict[str, int]:
    """What the task
    does.

    And details.
    """
    return {x + str(context): n}


def in_a_thread(n: int) -> int:
    return n + 1


async def alone() -> str:
    return "here"


NOTED: list[int] = []


def note(n: int) -> None:
    NOTED.append(n)


async def note_async(n: int) -> None:
    NOTED.append(n)


@decorated
def behind_a_decorator(n: int) -> int:
    return n


def test_a_task_is_what_its_function_says() -> None:
    made: Task[..., Any] = task(on_the_loop)
    assert (made.name, made.function, made.runs_in) == ("on_the_loop", on_the_loop, "loop")
    assert made.description == "What the task does."
    assert (made.queue, made.priority, made.max_attempts, made.timeout) == ("default", 5, 1, None)
    assert (made.has_ttl, made.ttl, task(ttl=None)(alone).has_ttl) == (False, None, True)
    assert (made.signature.takes_context, list(made.signature.parameters)) == (True, ["n", "x"])


@pytest.mark.parametrize(
    "options",
    [
        {"queue": "slow", "priority": 0, "max_attempts": 3, "timeout": 1, "ttl": 0},
        {"name": "a" * 200, "queue": "q" * 100},
        {"name": "_a.b:c-d"},
        {"priority": 9, "max_attempts": 1000, "timeout": 2_592_000, "ttl": 315_360_000},
        {"timeout": 0.001, "runs_in": "thread", "ttl": None},
        {"max_attempts": 3, "retry": Retry(base=9)},
        {"max_attempts": 3, "retry": None},
        {"retry": None},
    ],
    ids=lambda options: named(options)[:30],
)
def test_options_are_kept_up_to_the_ends_of_their_ranges(options: dict[str, Any]) -> None:
    made = task(**options)(in_a_thread)
    assert {name: getattr(made, name) for name in options} == options
    assert (made.has_ttl, made.retry) == (
        "ttl" in options,
        options.get("retry", Retry() if "retry" not in options else None),
    )


async def test_a_task_can_still_be_called_as_the_function_it_is() -> None:
    assert task(in_a_thread)(1) == 2
    assert await task(alone)() == "here"
    assert inspect.signature(task(in_a_thread)) == inspect.signature(in_a_thread)


async def test_background_tasks_of_the_web_framework_still_run_it() -> None:
    seen = BackgroundTasks()
    for made in (task(note), task(note_async)):
        seen.add_task(made, 7)
    await seen()
    assert NOTED == [7, 7]


def test_a_decorated_function_is_seen_through() -> None:
    made = task(behind_a_decorator)
    assert list(made.signature.parameters) == ["n"]
    assert re.fullmatch(rf"<task '\w+' {re.escape(__name__)}:\w+ \(.*test_task\.py:\d+\)>", repr(made))


NAN, INF = float("nan"), float("inf")
IMPOSSIBLE: dict[str, tuple[list[object], str]] = {
    "name": (["", "1a", "a b", "a\n", "ä", "a" * 201, 5], "write letters, digits"),
    "queue": (["", "a/b", "a" * 101, None], "write letters, digits"),
    "priority": ([-1, 10, True, 5.5, "5"], "a whole number from 0 to 9"),
    "max_attempts": ([0, 1001, True], "a whole number from 1 to 1000"),
    "timeout": ([0, 2_592_001, NAN, INF, True, "30"], "seconds from 0.001 to 2592000, None for no limit"),
    "ttl": ([-1, 315_360_001], "seconds from 0 to 315360000, None to keep"),
    "runs_in": (["moon"], "'loop', 'thread' or 'process'"),
    "retry": ([3, Retry, "Retry"], r"write Retry\(…\), or None"),
}
REFUSED = [(alone, {option: value}, fix) for option, (values, fix) in IMPOSSIBLE.items() for value in values]
AT_ODDS: list[tuple[Any, dict[str, Any], str]] = [
    (alone, {"retry": Retry()}, "never act with max_attempts=1; write how often"),
    (alone, {"max_attempts": 9, "retry": Retry(max_attempts=3)}, "move max_attempts=3 out of the Retry, to the task"),
    (alone, {"runs_in": "thread"}, "write def, or leave it out"),
    (alone, {"runs_in": "process"}, "a process runs a def"),
    (in_a_thread, {"runs_in": "loop"}, "write async def, or leave it out"),
]


@pytest.mark.parametrize(("function", "options", "fix"), REFUSED + AT_ODDS, ids=named)
def test_an_impossible_option_is_refused_with_its_fix(function: Any, options: dict[str, Any], fix: str) -> None:
    with pytest.raises(DeclarationError, match=rf"test_task\.{function.__name__}, {list(options)[-1]}=.*({fix})"):
        task(**options)(function)


def test_a_catalog_knows_its_tasks_by_name() -> None:
    first, second = task(name="b")(in_a_thread), task(name="a")(alone)
    catalog = Catalog([first, second, first])
    assert (list(catalog), catalog.names, len(catalog), catalog["b"]) == ([second, first], ("a", "b"), 2, first)
    assert ("a" in catalog, "c" in catalog) == (True, False)
    assert [catalog.of_kind(kind) for kind in ("loop", "thread", "process")] == [[second], [first], []]


def test_two_tasks_of_one_name_are_refused_with_both_places() -> None:
    both = rf"{re.escape(__name__)}:in_a_thread \(.*:\d+\) and {re.escape(__name__)}:alone \(.*:\d+\)"
    with pytest.raises(DeclarationError, match=rf"two tasks are named 'x': {both}.*name=…"):
        Catalog([task(name="x")(in_a_thread), task(name="x")(alone)])


def test_an_unknown_name_is_answered_with_what_is_near() -> None:
    for name, near in (("send_emial", ("send_email",)), ("zzz", ())):
        with pytest.raises(UnknownTaskError) as caught:
            Catalog([task(name="send_email")(alone)])[name]
        assert (caught.value.name, caught.value.near) == (name, near)


def test_the_tasks_of_modules_are_those_at_their_top() -> None:
    one, other = ModuleType("one"), ModuleType("other")
    shared, own = task(alone), task(in_a_thread)
    vars(one).update(shared=shared, own=own, plain=in_a_thread)
    vars(other).update(imported=shared)
    assert list(Catalog.from_modules([one, other])) == [shared, own]


def test_a_context_gives_tokens_that_are_the_same_in_every_attempt() -> None:
    job_id = UUID(int=7)
    first, second = (
        JobContext(job_id=job_id, attempt=n, trace_id="0" * 32, task="t", log=None, runtime=None)  # type: ignore[arg-type]
        for n in (1, 2)
    )
    assert first.idempotency_token == second.idempotency_token == str(job_id)
    assert first.token("mail") == second.token("mail") != first.token("sms")
