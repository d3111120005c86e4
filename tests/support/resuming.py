"""Tasks that make checkpoints, in every executor; they write what they do to a file, one line for each thing."""

import asyncio
import os
import time
from pathlib import Path
from typing import Any, Final

from jobtrail import Fail, JobContext, task

KINDS: Final = ("count", "count_in_thread", "count_in_process")


def note(path: Path, context: JobContext, what: str, step: int) -> None:
    """One write for each line, so that a kill tears none."""
    file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    try:
        os.write(file, f"{context.attempt} {what} {step}\n".encode())
    finally:
        os.close(file)


def noted(path: Path) -> list[tuple[int, str, int]]:
    """Attempt, `did` or `stored`, and the step."""
    lines = (line.split() for line in path.read_text().splitlines()) if path.exists() else ()
    return [(int(attempt), what, int(step)) for attempt, what, step in lines]


def is_over(step: int, steps: int, gate: Path | None) -> bool:
    return step >= steps and (gate is None or gate.exists())


@task
async def count(context: JobContext, path: Path, steps: int, gate: Path | None = None) -> int:
    step = context.cursor or 0
    while not is_over(step, steps, gate):
        note(path, context, "did", step)
        step += 1
        await context.checkpoint(step)
        note(path, context, "stored", step)
    return step


@task
def count_in_thread(context: JobContext, path: Path, steps: int, gate: Path | None = None) -> int:
    return _count(context, path, steps, gate)


@task(runs_in="process")
def count_in_process(context: JobContext, path: Path, steps: int, gate: Path | None = None) -> int:
    return _count(context, path, steps, gate)


def _count(context: JobContext, path: Path, steps: int, gate: Path | None) -> int:
    step = context.cursor or 0
    while not is_over(step, steps, gate):
        note(path, context, "did", step)
        step += 1
        context.checkpoint(step)
        note(path, context, "stored", step)
    return step


@task
async def once(context: JobContext, how: str = "hold") -> Any:
    """The first attempt makes a checkpoint and then does as asked; the others return their cursor."""
    if context.attempt > 1:
        if how == "again":
            await asyncio.sleep(600)
        return context.cursor
    await context.checkpoint({"at": [1, "é", None, 2.5, True]})
    assert context.cursor is None, "it stays what it was when the attempt began"
    if how == "fail":
        raise Fail("on purpose")
    if how == "nothing":
        return None
    return await asyncio.sleep(600)


@task
def once_in_thread(context: JobContext) -> Any:
    if context.attempt > 1:
        return context.cursor
    context.checkpoint({"at": [1, "é", None, 2.5, True]})
    while not context.cancelled:
        time.sleep(0.005)
    raise InterruptedError


@task(runs_in="process")
def once_in_process(context: JobContext) -> Any:
    if context.attempt > 1:
        return context.cursor
    context.checkpoint({"at": [1, "é", None, 2.5, True]})
    return time.sleep(600)


@task
async def many(context: JobContext, number: int) -> None:
    """All at the same time."""
    await asyncio.gather(*(context.checkpoint(each) for each in range(number)))


@task
async def beside(context: JobContext) -> str:
    """In a thread of an `async def`, where it blocks as in a `def`; in a loop of that thread too."""

    async def inside() -> None:
        await context.checkpoint("in a loop")

    await asyncio.to_thread(context.checkpoint, "in a thread")
    await asyncio.to_thread(asyncio.run, inside())
    return "stored"


@task
async def tidy(context: JobContext) -> Any:
    """It says where it was while it is told to end."""
    if context.attempt > 1:
        return context.cursor
    await context.checkpoint("begun")
    try:
        await asyncio.sleep(600)
    finally:
        await context.checkpoint("told")


@task
async def with_session(context: JobContext) -> None:
    await context.session()
    await context.checkpoint(1)


SAID: Final[list[BaseException]] = []
GO: Final = asyncio.Event()


@task
async def when_told(context: JobContext) -> None:
    """It keeps what a checkpoint raises, and tries once more."""
    await context.checkpoint("before")
    await GO.wait()
    for _ in range(2):
        try:
            await context.checkpoint("after")
        except BaseException as error:  # noqa: BLE001 - it is what the test looks at
            SAID.append(error)


@task
def when_told_in_thread(context: JobContext) -> None:
    context.checkpoint("before")
    while not GO.is_set():
        time.sleep(0.005)
    for _ in range(2):
        try:
            context.checkpoint("after")
        except BaseException as error:  # noqa: BLE001 - as above
            SAID.append(error)


@task
async def store(context: JobContext, how: str) -> None:
    values: dict[str, Any] = {
        "set": {1},
        "tuple": {"at": (1, 2)},
        "nan": [float("nan")],
        "nul": "a\0b",
        "key": {1: "x"},
        "large": "x" * 65_535,
        "cycle": (cycle := []),
    }
    cycle.append(cycle)
    await context.checkpoint(values[how])
