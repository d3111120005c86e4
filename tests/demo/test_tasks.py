import logging
from typing import Any

import pytest

from jobtrail import Task, demo
from jobtrail.demo import flaky, nap, sum_range
from jobtrail.job.catalog import Catalog
from jobtrail.job.errors import InvalidArgumentsError
from support.contexts import Untied, context_of


def test_the_catalog_of_the_demo() -> None:
    tasks = Catalog.from_modules([demo])
    assert {task.name: task.runs_in for task in tasks} == {
        "fetch_all": "loop",
        "flaky": "thread",
        "index_document": "thread",
        "nap": "loop",
        "send_mail": "thread",
        "sum_range": "process",
    }
    assert all(task.description for task in tasks)


@pytest.mark.parametrize("n", [0, 1, 2, 200_000, 450_000])
def test_sum_range_says_how_far_it_has_come(n: int) -> None:
    ties = Untied()
    assert sum_range(context_of(ties=ties), n) == n * (n - 1) // 2
    assert [said.done for said in ties.reported] == [*range(0, n, 200_000), n]


def test_flaky_fails_as_often_as_asked_and_has_three_attempts() -> None:
    for attempt in (1, 2):
        with pytest.raises(ConnectionError, match=f"attempt {attempt} fails on purpose"):
            flaky(context_of(attempt=attempt), fail_times=2)
    assert flaky(context_of(attempt=3), fail_times=2) == "attempt 3 went well"
    assert (flaky.max_attempts, flaky.retry and flaky.retry.base) == (3, 0.5)


async def test_a_nap_may_be_begun_again_only_when_it_was_lost() -> None:
    assert await nap(context_of(attempt=2), seconds=0) == "slept for 0 s in attempt 2"
    assert (nap.max_attempts, nap.retry) == (2, None)


async def test_a_nap_logs_what_it_does(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        await nap(context_of(), seconds=0.01)
    assert caplog.messages == ["asleep for 0.01 s", "awake again"]


@pytest.mark.parametrize(
    ("task", "args"),
    [
        (sum_range, {"n": -1}),
        (sum_range, {"n": 10**9 + 1}),
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
