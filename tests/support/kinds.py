"""One task of each kind that does what it is asked: end well or badly, listen when it is told to end, or not."""

import asyncio
import time

from jobtrail import Fail, JobContext, Retry, task

LONG = 60.0
DEAF = 6.0
"""Seconds that a deaf task goes on; longer than the graces of the tests."""

_AGAIN = Retry(base=0.01, max=0.01, on=(ConnectionError,))


@task(name="kind_loop", max_attempts=2, retry=_AGAIN)
async def on_loop(context: JobContext, how: str) -> str:
    context.log.info("began %s", how)
    if how == "deaf":
        end = time.monotonic() + DEAF
        while time.monotonic() < end:
            try:
                await asyncio.sleep(0.02)
            except asyncio.CancelledError:
                context.log.info("heard, and went on: %s", context.cancelled)
        return "late"
    if how == "wait":
        try:
            await asyncio.sleep(LONG)
        finally:
            context.log.info("cleaned up: %s", context.cancelled)
    return _ended(context, how)


@task(name="kind_thread", max_attempts=2, retry=_AGAIN)
def in_thread(context: JobContext, how: str) -> str:
    context.log.info("began %s", how)
    if how == "deaf":
        time.sleep(DEAF)
        return "late"
    if how == "wait":
        end = time.monotonic() + LONG
        while time.monotonic() < end:
            if context.cancelled:
                context.log.info("cleaned up: %s", context.cancelled)
                raise InterruptedError("told to end")
            time.sleep(0.02)
    return _ended(context, how)


@task(name="kind_process", runs_in="process", max_attempts=2, retry=_AGAIN)
def in_process(context: JobContext, how: str) -> str:
    context.log.info("began %s", how)
    if how == "deaf":
        end = time.monotonic() + LONG
        while time.monotonic() < end:
            try:
                time.sleep(0.02)
            except asyncio.CancelledError:
                context.log.info("heard, and went on: %s", context.cancelled)
        return "late"
    if how == "wait":
        try:
            time.sleep(LONG)
        finally:
            context.log.info("cleaned up: %s", context.cancelled)
    return _ended(context, how)


def _ended(context: JobContext, how: str) -> str:
    context.progress(context.attempt, 2, how)  # no time for a write of its own: it rides the end
    match how, context.attempt:
        case "fail", _:
            raise ValueError("as asked")
        case "group", 1:
            raise ExceptionGroup("one of several", [ExceptionGroup("nested", [ConnectionError("not yet")])])
        case "group", _:
            raise ExceptionGroup("two", [ConnectionError("still not"), Fail("never", type="gone")])
        case "flaky", 1:
            raise ConnectionError("not yet")
        case _:
            return f"well, in attempt {context.attempt}"
