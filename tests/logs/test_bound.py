import asyncio
import contextvars
import logging
import threading
from collections.abc import Callable
from typing import Any

import pytest

from jobtrail.logs import bind, current

Objects = Callable[[], list[dict[str, Any]]]

log = logging.getLogger("shop.tasks")


def test_bound_fields_nest_and_end_with_their_block(objects: Objects) -> None:
    with bind(trace_id="t"):
        with bind(job_id="1", attempt=1):
            log.info("inner")
            assert dict(current()) == {"trace_id": "t", "job_id": "1", "attempt": 1}
        log.info("outer")
    log.info("outside")
    assert [set(line) - {"time", "level", "logger", "message"} for line in objects()] == [
        {"trace_id", "job_id", "attempt"},
        {"trace_id"},
        set(),
    ]
    assert dict(current()) == {}


def test_what_is_bound_ends_also_when_the_block_fails() -> None:
    with pytest.raises(KeyError), bind(job_id="1"):
        raise KeyError
    assert dict(current()) == {}


def test_a_record_about_another_job_keeps_that_jobs_id(objects: Objects) -> None:
    with bind(job_id="mine", task="t"):
        log.info("rescued", extra={"job_id": "other"})
    [line] = objects()
    assert (line["job_id"], line["task"]) == ("other", "t")


async def test_each_of_two_tasks_of_the_loop_has_its_own_fields(objects: Objects) -> None:
    both = asyncio.Barrier(2)

    async def work(job: str) -> None:
        with bind(job_id=job):
            await both.wait()
            log.info(job)

    await asyncio.gather(work("1"), work("2"))
    told = objects()
    assert {line["message"]: line["job_id"] for line in told} == {"1": "1", "2": "2"}


async def test_threads_that_run_in_a_copy_of_the_context_have_the_fields(objects: Objects) -> None:
    with bind(job_id="1"):
        await asyncio.to_thread(log.info, "to_thread")
        thread = threading.Thread(target=contextvars.copy_context().run, args=(log.info, "thread"))
        thread.start()
        thread.join()
    assert [(line["message"], line["job_id"]) for line in objects()] == [("to_thread", "1"), ("thread", "1")]
