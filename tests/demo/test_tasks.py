import logging
from typing import Any
from uuid import uuid4

import pytest

from jobtrail import JobContext, Task, demo
from jobtrail.demo import flaky, nap, sum_range
from jobtrail.job.catalog import Catalog
from jobtrail.job.errors import InvalidArgumentsError


def context(attempt: int) -> JobContext:
    async def submit(*_: object) -> None:
        raise NotImplementedError

    return JobContext(
        job_id=uuid4(),
        attempt=attempt,
        trace_id=uuid4().hex,
        task="a task",
        log=logging.getLogger("test"),
        submitter=submit,  # type: ignore[arg-type] # no sample submits another
    )


def test_the_catalog_of_the_demo() -> None:
    tasks = Catalog.from_modules([demo])
    assert {task.name: task.runs_in for task in tasks} == {
        "fetch_all": "loop",
        "flaky": "thread",
        "index_document": "thread",
        "nap": "loop",
        "send_mail": "thread",
        "sum_range": "thread",
    }
    assert all(task.description for task in tasks)


@pytest.mark.parametrize("n", [0, 1, 2, 100_000])
def test_sum_range(n: int) -> None:
    assert sum_range(n) == n * (n - 1) // 2


def test_flaky_fails_as_often_as_asked_and_has_three_attempts() -> None:
    for attempt in (1, 2):
        with pytest.raises(ConnectionError, match=f"attempt {attempt} fails on purpose"):
            flaky(context(attempt), fail_times=2)
    assert flaky(context(3), fail_times=2) == "attempt 3 went well"
    assert (flaky.max_attempts, flaky.retry and flaky.retry.base) == (3, 0.5)


async def test_a_nap_may_be_begun_again_only_when_it_was_lost() -> None:
    assert await nap(context(2), seconds=0) == "slept for 0 s in attempt 2"
    assert (nap.max_attempts, nap.retry) == (2, None)


@pytest.mark.parametrize(
    ("task", "args"),
    [
        (sum_range, {"n": -1}),
        (sum_range, {"n": 10**9}),
        (sum_range, {"n": "five"}),
        (flaky, {"fail_times": -1}),
        (nap, {"seconds": 3601}),
        (demo.index_document, {"path": ""}),
        (demo.fetch_all, {"urls": []}),
        (demo.fetch_all, {"urls": ["http://127.0.0.1/"] * 101}),
        (demo.fetch_all, {"urls": ["file:///etc/passwd"]}),
        (demo.fetch_all, {"urls": ["http://127.0.0.1/"], "at_once": 0}),
        (demo.fetch_all, {"urls": ["http://127.0.0.1/"], "at_once": 21}),
        (demo.send_mail, {"to": "ada@example.org", "subject": "x" * 201, "body": ""}),
    ],
)
def test_refused_at_the_door(task: Task[..., Any], args: dict[str, object]) -> None:
    with pytest.raises(InvalidArgumentsError):
        task.signature.check(args)
