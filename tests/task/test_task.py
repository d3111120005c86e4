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


@decorated
def behind_a_decorator(n: int) -> int:
    return n


def test_a_task_is_what_its_function_says() -> None:
    made: Task[..., Any] = task(on_the_loop)
    assert made.name == "on_the_loop"
    assert made.description == "What the task does."
    assert made.runs_in == "loop"
    assert made.function is on_the_loop
    assert (made.queue, made.priority, made.max_attempts, made.timeout) == ("default", 5, 1, None)
    assert (made.has_ttl, made.ttl) == (False, None)
    assert made.signature.takes_context
    assert list(made.signature.parameters) == ["n", "x"]


def test_options_are_kept() -> None:
    retry = Retry(base=2)
    options: dict[str, Any] = {"queue": "slow", "priority": 0, "max_attempts": 3, "timeout": 1, "ttl": 0}
    made = task(name="other.name", retry=retry, **options)(in_a_thread)
    assert (made.name, made.retry, made.runs_in, made.description) == ("other.name", retry, "thread", "")
    assert {name: getattr(made, name) for name in options} == options
    assert made.has_ttl


def test_ttl_none_keeps_the_row_and_is_not_the_same_as_nothing() -> None:
    made = task(ttl=None)(in_a_thread)
    assert (made.has_ttl, made.ttl) == (True, None)


@pytest.mark.parametrize(
    ("options", "retry"),
    [
        ({}, Retry()),
        ({"max_attempts": 3}, Retry()),
        ({"max_attempts": 3, "retry": None}, None),
        ({"retry": None}, None),
        ({"max_attempts": 3, "retry": Retry(base=9)}, Retry(base=9)),
    ],
    ids=named,
)
def test_without_a_word_errors_are_retried_and_none_makes_them_final(options: Any, retry: Retry | None) -> None:
    assert task(**options)(in_a_thread).retry == retry


async def test_a_task_can_still_be_called_as_the_function_it_is() -> None:
    assert task(in_a_thread)(1) == 2
    assert await task(alone)() == "here"
    assert inspect.signature(task(in_a_thread)) == inspect.signature(in_a_thread)


async def test_background_tasks_of_the_web_framework_still_run_it() -> None:
    seen = BackgroundTasks()
    calls = []

    def note(n: int) -> None:
        calls.append(n)

    async def note_async(n: int) -> None:
        calls.append(n)

    for function in (note, note_async):
        function.__qualname__ = function.__name__  # as if it stood at the top of the module
        seen.add_task(task(function), 7)
    await seen()
    assert calls == [7, 7]


def test_a_decorated_function_is_seen_through() -> None:
    made = task(behind_a_decorator)
    assert list(made.signature.parameters) == ["n"]
    assert "test_task.py" in made.place


@pytest.mark.parametrize(
    ("function", "options", "fix"),
    [
        (alone, {"name": ""}, "letters, digits"),
        (alone, {"name": "1a"}, "letters, digits"),
        (alone, {"name": "a b"}, "letters, digits"),
        (alone, {"name": "a\n"}, "letters, digits"),
        (alone, {"name": "ä"}, "letters, digits"),
        (alone, {"name": "a" * 201}, "at most 200"),
        (alone, {"name": 5}, "letters, digits"),
        (alone, {"queue": ""}, "1 to 100"),
        (alone, {"queue": "a/b"}, "1 to 100"),
        (alone, {"queue": "a" * 101}, "1 to 100"),
        (alone, {"queue": None}, "1 to 100"),
        (alone, {"priority": -1}, "from 0 to 9"),
        (alone, {"priority": 10}, "from 0 to 9"),
        (alone, {"priority": True}, "from 0 to 9"),
        (alone, {"priority": 5.0}, "from 0 to 9"),
        (alone, {"priority": "5"}, "from 0 to 9"),
        (alone, {"max_attempts": 0}, "from 1 to 1000"),
        (alone, {"max_attempts": 1001}, "from 1 to 1000"),
        (alone, {"max_attempts": True}, "from 1 to 1000"),
        (alone, {"timeout": 0}, "seconds from 0.001 to 2592000, None for no limit"),
        (alone, {"timeout": 2_592_001}, "seconds from"),
        (alone, {"timeout": float("nan")}, "seconds from"),
        (alone, {"timeout": float("inf")}, "seconds from"),
        (alone, {"timeout": True}, "seconds from"),
        (alone, {"timeout": "30"}, "seconds from"),
        (alone, {"ttl": -1}, "seconds from 0 to 315360000, None to keep the rows"),
        (alone, {"ttl": 315_360_001}, "seconds from"),
        (alone, {"retry": Retry()}, "never act with max_attempts=1; write how often"),
        (alone, {"max_attempts": 2, "retry": 3}, r"write Retry\(…\), or None"),
        (
            alone,
            {"max_attempts": 9, "retry": Retry(max_attempts=3)},
            "move max_attempts=3 out of the Retry, to the task",
        ),
        (alone, {"runs_in": "thread"}, "write def, or leave it out"),
        (in_a_thread, {"runs_in": "loop"}, "write async def, or leave it out"),
        (alone, {"runs_in": "process"}, "a process runs a def"),
        (alone, {"runs_in": "moon"}, "write 'loop', 'thread' or 'process', or leave it out"),
    ],
    ids=named,
)
def test_an_impossible_option_is_refused_with_its_fix(function: Any, options: dict[str, Any], fix: str) -> None:
    option = list(options)[-1]
    with pytest.raises(DeclarationError, match=rf"test_task\.{function.__name__}, {option}=.*{fix}"):
        task(**options)(function)


@pytest.mark.parametrize(
    "options",
    [
        {"name": "a" * 200, "queue": "q" * 100},
        {"name": "_a.b:c-d"},
        {"priority": 9, "max_attempts": 1000, "timeout": 2_592_000, "ttl": 315_360_000},
        {"timeout": 0.001, "runs_in": "thread"},
    ],
    ids=lambda options: str(options)[:30],
)
def test_the_ends_of_the_ranges_are_taken(options: dict[str, Any]) -> None:
    made = task(**options)(in_a_thread)
    assert {name: getattr(made, name) for name in options} == options


def test_a_catalog_knows_its_tasks_by_name() -> None:
    first, second = task(name="b")(in_a_thread), task(name="a")(alone)
    catalog = Catalog([first, second, first])
    assert catalog.names == ("a", "b")
    assert list(catalog) == [second, first]
    assert catalog["b"] is first
    assert "a" in catalog
    assert "c" not in catalog
    assert len(catalog) == 2
    assert (catalog.of_kind("loop"), catalog.of_kind("thread"), catalog.of_kind("process")) == ([second], [first], [])


def test_two_tasks_of_one_name_are_refused_with_both_places() -> None:
    both = rf"{re.escape(__name__)}:in_a_thread \(.*:\d+\) and {re.escape(__name__)}:alone \(.*:\d+\)"
    with pytest.raises(DeclarationError, match=rf"two tasks are named 'x': {both}.*name=…"):
        Catalog([task(name="x")(in_a_thread), task(name="x")(alone)])


@pytest.mark.parametrize(("name", "near"), [("send_emial", ("send_email",)), ("zzz", ())], ids=named)
def test_an_unknown_name_is_answered_with_what_is_near(name: str, near: tuple[str, ...]) -> None:
    with pytest.raises(UnknownTaskError) as caught:
        Catalog([task(name="send_email")(alone)])[name]
    assert (caught.value.name, caught.value.near) == (name, near)


def test_the_tasks_of_modules_are_those_at_their_top() -> None:
    one, other = ModuleType("one"), ModuleType("other")
    shared, own = task(alone), task(in_a_thread)
    vars(one).update(shared=shared, own=own, plain=in_a_thread)
    vars(other).update(imported=shared)
    assert list(Catalog.from_modules([one, other])) == [shared, own]


def test_a_task_shows_its_name_and_place() -> None:
    assert re.fullmatch(rf"<task 'alone' {re.escape(__name__)}:alone \(.*test_task\.py:\d+\)>", repr(task(alone)))


def test_a_context_gives_tokens_that_are_the_same_in_every_attempt() -> None:
    job_id = UUID(int=7)
    first, second = (
        JobContext(job_id=job_id, attempt=n, trace_id="0" * 32, task="t", log=None, ties=None)  # type: ignore[arg-type]
        for n in (1, 2)
    )
    assert first.idempotency_token == second.idempotency_token == str(job_id)
    assert first.token("mail") == second.token("mail") != first.token("sms")
