import asyncio
import functools
import inspect
import logging
import pickle
import random
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest

from jobtrail import Again, Fail, JobContext, Retry, Task, task
from jobtrail.errors import DeclarationError
from support.trouble import SHAPES, WAYS, Make, Trouble
from support.until import until

QUICK = Retry(base=0, jitter=0)
PICKY = Retry(base=0, on=(OSError,), give_up_on=(PermissionError,))
shapes = pytest.mark.parametrize("shape", SHAPES.values(), ids=list(SHAPES))
ways = pytest.mark.parametrize("way", WAYS.values(), ids=list(WAYS))


async def done(result: Any) -> Any:
    return await result if inspect.isawaitable(result) else result


@ways
@shapes
async def test_a_call_is_made_until_it_succeeds(shape: Make, way: Any) -> None:
    trouble = Trouble(OSError(), TimeoutError())
    named = {"fn": 2, "function": 3, "retry": 4, "args": 5}
    assert await done(way(QUICK, shape(trouble))(1, **named)) == ((1,), named)
    assert trouble.calls == 3


@ways
@shapes
@pytest.mark.parametrize(("retry", "calls"), [(QUICK, 5), (Retry(base=0, max_attempts=2), 2)], ids=["silent", "told"])
async def test_the_last_error_is_raised_as_it_is(shape: Make, way: Any, retry: Retry, calls: int) -> None:
    errors = [OSError(n) for n in range(9)]
    trouble = Trouble(*errors)
    with pytest.raises(OSError, match=str(calls - 1)) as caught:
        await done(way(retry, shape(trouble))())
    assert caught.value is errors[calls - 1]
    assert (caught.value.__cause__, caught.value.__context__) == (None, None)
    assert trouble.calls == calls


@shapes
@pytest.mark.parametrize(
    ("retry", "error", "calls"),
    [
        (QUICK, asyncio.CancelledError(), 1),
        (QUICK, SystemExit(), 1),
        (Retry(base=0, on=(Fail,)), Fail(), 1),
        (PICKY, KeyError(), 1),
        (PICKY, PermissionError(), 1),
        (PICKY, TimeoutError(), 2),
        (PICKY, Again(), 2),
        (Retry(base=0, on=(asyncio.CancelledError, SystemExit)), asyncio.CancelledError(), 2),
        (Retry(base=0, on=(asyncio.CancelledError, SystemExit)), SystemExit(), 2),
        (Retry(base=9, give_up_on=(Again,)), Again(0), 2),
        (PICKY, ExceptionGroup("g", [OSError(), KeyError()]), 1),
        (Retry(base=9, on=(OSError,)), ExceptionGroup("g", [OSError(), Again(0)]), 2),
    ],
    ids=repr,
)
async def test_only_what_is_worth_it_is_called_again(
    shape: Make, retry: Retry, error: BaseException, calls: int
) -> None:
    trouble = Trouble(error)
    if calls == 1:
        with pytest.raises(type(error)) as caught:
            await done(retry.call(shape(trouble)))
        assert caught.value is error
    else:
        assert await done(retry.call(shape(trouble), 1)) == ((1,), {})
    assert trouble.calls == calls


@shapes
@pytest.mark.parametrize(
    ("retry", "errors", "waits"),
    [
        (Retry(base=0.01, max=0.03, jitter=0), [OSError()] * 4, [0.01, 0.02, 0.03, 0.03]),
        (Retry(base=0.01, factor=1, jitter=0), [OSError(), Again(), OSError()], [0.01, 0.01, 0.01]),
        (Retry(base=9), [Again(0.02), Again(timedelta(milliseconds=10))], [0.02, 0.01]),
        (Retry(base=0.01, jitter=0), [Again(0.02), OSError()], [0.02, 0.02]),
    ],
    ids=["up to the longest", "one for all", "asked for", "counted on"],
)
async def test_the_waits_are_those_that_were_said(
    shape: Make, retry: Retry, errors: list[Exception], waits: list[float], caplog: pytest.LogCaptureFixture
) -> None:
    began = time.monotonic()
    await done(retry.call(shape(Trouble(*errors))))
    assert sum(waits) <= time.monotonic() - began
    assert [record.message.split()[-2] for record in caplog.records] == [f"{wait:g}" for wait in waits]


def test_each_repeat_is_told_with_its_wait_and_without_the_arguments(caplog: pytest.LogCaptureFixture) -> None:
    retry, chance = Retry(base=0.01, jitter=1), random.Random(7)  # noqa: S311 - the same numbers as below
    waits = [round(retry.delay(attempt, chance.random()), 3) for attempt in (1, 2)]
    random.seed(7)
    retry.call(functools.partial(Trouble(*[OSError("the\ndisk")] * 2).sync, "secret"), name="secret")
    told = f"{Trouble.__module__}.Trouble.sync raised OSError('the\\ndisk'); call {{}} of at most 5 follows in {{:g}} s"
    assert caplog.record_tuples == [
        ("jobtrail.task.calls", logging.WARNING, told.format(number, wait))
        for number, wait in enumerate(waits, start=2)
    ]


async def test_calls_that_failed_before_they_gave_a_coroutine_count_too(caplog: pytest.LogCaptureFixture) -> None:
    early, late = Trouble(OSError(), OSError()), Trouble(*[OSError("late")] * 9)

    def fetch() -> Any:
        early.sync()
        return late.awaited()

    with pytest.raises(OSError, match="late"):
        await Retry(base=0.001, factor=10, jitter=0, max=0.01, max_attempts=4).call(fetch)
    assert (early.calls, late.calls) == (4, 2)
    told = [record.message.partition("; ")[2] for record in caplog.records]
    assert told == [f"call {n} of at most 4 follows in {wait} s" for n, wait in ((2, 0.001), (3, 0.01), (4, 0.01))]


async def test_a_call_that_waits_leaves_the_loop_to_others_and_can_be_cancelled(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def waits() -> bool:
        return bool(caplog.records)

    trouble = Trouble(OSError())
    waiting = asyncio.create_task(Retry(base=60).call(trouble.awaited))
    await until(waits)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert trouble.calls == 1


async def test_calls_at_the_same_time_do_not_mix() -> None:
    @QUICK
    async def fetch(trouble: Trouble) -> int:
        await trouble.awaited()
        return trouble.calls

    @QUICK
    def read(trouble: Trouble) -> int:
        trouble.sync()
        return trouble.calls

    first, second = ([Trouble(*[OSError()] * (n % 5)) for n in range(50)] for _ in range(2))
    calls = [n % 5 + 1 for n in range(50)]
    assert await asyncio.gather(*map(fetch, first)) == calls
    with ThreadPoolExecutor(8) as threads:
        assert list(threads.map(read, second)) == calls


class Shop:
    def __init__(self) -> None:
        self.trouble = Trouble(OSError())

    @QUICK
    async def find(self, name: str) -> str:
        """Looks it up."""
        await self.trouble.awaited()
        return name

    @staticmethod
    @QUICK
    def open(trouble: Trouble) -> int:
        trouble.sync()
        return trouble.calls

    @classmethod
    @QUICK
    def of(cls, trouble: Trouble) -> "Shop":
        trouble.sync()
        return cls()


async def test_methods_are_repeated() -> None:
    assert await Shop().find("tea") == "tea"
    assert Shop.open(Trouble(OSError())) == 2
    assert isinstance(Shop.of(Trouble(OSError())), Shop)
    assert isinstance(QUICK.call(Shop), Shop)
    assert (Shop.find.__name__, Shop.find.__doc__) == ("find", "Looks it up.")
    assert list(inspect.signature(Shop.find).parameters) == ["self", "name"]


@QUICK
async def on_the_loop(context: JobContext, n: int) -> int:
    return n + context.attempt


@QUICK
def in_a_thread(n: int) -> int:
    return n


async def test_a_repeated_function_can_be_a_task() -> None:
    first, second = task(on_the_loop), task(in_a_thread)
    assert (first.runs_in, list(first.signature.parameters), first.signature.takes_context) == ("loop", ["n"], True)
    assert (second.runs_in, list(second.signature.parameters)) == ("thread", ["n"])
    assert pickle.loads(pickle.dumps(in_a_thread)) is in_a_thread  # noqa: S301 - our own
    assert second(3) == 3


def counted() -> Iterator[int]:
    yield 1


async def counted_async() -> AsyncIterator[int]:
    yield 1


TASK: Task[..., Any] = task(in_a_thread)
ANYHOW: list[tuple[Callable[[], Any], str]] = [
    (lambda: counted, r"\.counted cannot be repeated: it yields; collect the values"),
    (lambda: counted_async, r"\.counted_async cannot be repeated: it yields; collect the values"),
    (lambda: functools.partial(counted), r"\.counted cannot be repeated: it yields"),
    (lambda: TASK, r"is a task; write @task\(retry=Retry\(…\)\), or hand over its \.function"),
    (lambda: Shop().find("tea"), "is called already; hand over the function and, after it, the arguments"),
    (lambda: 5, "int cannot be repeated: it cannot be called"),
]
DECORATED: list[tuple[Callable[[], Any], str]] = [
    (lambda: Shop, r"Shop cannot be repeated: it is a class; decorate the method"),
    (lambda: vars(Shop)["of"], r"write @Retry\(…\) below the other"),
    (lambda: vars(Shop)["open"], r"write @Retry\(…\) below the other"),
]


@pytest.mark.parametrize(
    ("way", "make", "fix"),
    [(way, *case) for name, way in WAYS.items() for case in ANYHOW + DECORATED * (name == "decorated")],
    ids=lambda part: part[:30] if isinstance(part, str) else "",
)
def test_what_cannot_be_repeated_is_refused_with_its_fix(way: Any, make: Callable[[], Any], fix: str) -> None:
    with pytest.raises(DeclarationError, match=fix):
        way(QUICK, make())()


def test_a_program_that_repeats_no_call_does_not_import_the_library() -> None:
    asked = "print('tenacity' in sys.modules)"
    code = f"import sys; from jobtrail import Retry; retry = Retry(); {asked}; retry.call(len, ''); {asked}"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert told.split() == ["False", "True"]
