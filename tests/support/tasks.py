"""Tasks for tests: each does one thing that a job can do."""

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from contextvars import ContextVar
from datetime import date

from sqlalchemy import text

from jobtrail import JobContext, Retry, task
from jobtrail.errors import ContextError

GATE = threading.Event()
"""What `hold` and `hold_in_thread` wait for."""


@task
async def noop(n: int = 0) -> dict[str, int]:
    return {"ok": n}


@task
async def nothing() -> None:
    return


@task
def in_thread(n: int) -> dict[str, object]:
    return {"n": n, "thread": threading.current_thread().name}


@task
async def hold(seconds: float = 60) -> str:
    end = time.monotonic() + seconds
    while not GATE.is_set() and time.monotonic() < end:
        await asyncio.sleep(0.005)
    return "released"


@task
async def hold_and_write(context: JobContext) -> str:
    """Into a table of the test's, through the job session."""
    session = await context.session()
    await session.execute(text("INSERT INTO written VALUES (:attempt)"), {"attempt": context.attempt})
    return await hold.function()


@task
def hold_in_thread(seconds: float = 60) -> str:
    GATE.wait(seconds)
    return "released"


@task
async def sleep_long() -> None:
    await asyncio.sleep(600)


@task
async def swallow_cancel() -> str:
    try:
        await asyncio.sleep(600)
    except asyncio.CancelledError:
        return "done anyway"
    return "slept"


@task
async def fail(how: str) -> None:
    match how:
        case "error":
            raise ValueError("as asked")
        case "exit":
            raise SystemExit(3)
        case "interrupt":
            raise KeyboardInterrupt
        case "cancelled":
            raise asyncio.CancelledError
        case "generator":
            raise GeneratorExit
        case "str":
            raise BadStrError
        case "nul":
            raise ValueError("a\x00b\ud800c")
        case "long":
            raise ValueError("x" * 1_000_000)
        case _:
            raise LookupError(how)


@task
def fail_in_thread(how: str) -> None:
    match how:
        case "exit":
            raise SystemExit(3)
        case "stop":
            raise StopIteration
        case "interrupt":
            raise KeyboardInterrupt
        case _:
            raise ValueError(how)


class BadStrError(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no words")


def exits() -> Iterator[int]:
    """It ends whoever writes it as JSON."""
    yield 1
    raise SystemExit(3)


@task
def give_in_thread() -> object:
    return exits()


GIFTS: dict[str, Callable[[], object]] = {
    "nan": lambda: float("nan"),
    "object": object,
    "large": lambda: "x" * 2_000_000,
    "nul": lambda: "\x00",
    "date": lambda: {"day": date(2026, 1, 2)},
    "exit": exits,
}


@task
async def give(what: str) -> object:
    return GIFTS[what]() if what in GIFTS else what


@task(max_attempts=3, retry=Retry(base=0.01, factor=1, max=0.01, jitter=0))
async def flaky(context: JobContext, succeed_at: int) -> int:
    if context.attempt < succeed_at:
        raise ConnectionError(f"attempt {context.attempt}")
    return context.attempt


@task
async def parent(context: JobContext, n: int) -> str:
    return str(await context.submit(noop, n))


@task
async def about(context: JobContext) -> dict[str, object]:
    context.log.info("about to tell")
    return {
        "job_id": str(context.job_id),
        "attempt": context.attempt,
        "trace_id": context.trace_id,
        "token": context.idempotency_token,
        "other": context.token("mail"),
    }


@task
def tell_in_thread() -> None:
    logging.getLogger("a.host.of.its.own").warning("told in a thread")


@task(timeout=0.05)
async def too_slow() -> None:
    await asyncio.sleep(600)


@task
def forgot_async() -> object:
    return asyncio.sleep(0)


@task
async def block(seconds: float) -> None:
    time.sleep(seconds)  # noqa: ASYNC251 - that is the fault it shows


@task
async def tell(context: JobContext, turns: int = 1) -> None:
    for turn in range(1, turns + 1):
        context.progress(turn, turns + 1, f"turn {turn}")
        context.log.info("half of it")
        await asyncio.sleep(0)
    try:
        int("x")
    except ValueError:
        logging.getLogger("a.host.of.its.own").exception("failed")
    context.progress(turns + 1, turns + 1, "all")


HAPPENED: list[tuple[str, int]] = []


@task(max_attempts=9)
async def hold_and_tell(context: JobContext) -> None:
    HAPPENED.append(("began", context.attempt))
    try:
        await hold.function()
    finally:
        HAPPENED.append(("ended", context.attempt))


CALLER: ContextVar[str] = ContextVar("caller", default="nobody")


@task
async def who_called() -> str:
    return CALLER.get()


@task
async def call(context: JobContext) -> str:
    CALLER.set("a parent")
    return str(await context.submit(who_called))


@task
async def submit_late(context: JobContext) -> None:
    while not context.cancelled:
        with suppress(asyncio.CancelledError):
            await asyncio.sleep(0.01)
    await asyncio.sleep(0.3)
    try:
        await context.submit(noop)
    except ContextError as error:
        HAPPENED.append((str(error), context.attempt))
