"""The tasks: what each takes is its schema, and how it may be repeated stands in its decorator."""

import asyncio
from typing import Annotated, Final

from pydantic import Field, HttpUrl

from jobtrail import JobContext, Retry, task
from jobtrail.demo.documents import Index, index, read_sample
from jobtrail.demo.mail import Receipt, compose, deliver
from jobtrail.demo.place import Place
from jobtrail.demo.web import Fetched, fetch, open_client

Address = Annotated[str, Field(max_length=254, pattern=r"^[A-Za-z0-9._+-]+@[A-Za-z0-9.-]+$")]
Line = Annotated[str, Field(max_length=200, pattern=r"^[^\r\n]*$")]

_CHUNK: Final = 200_000


@task(runs_in="process")
def sum_range(context: JobContext, n: Annotated[int, Field(ge=0, le=1_000_000_000)]) -> int:
    """Add up 0, 1, 2 … n - 1, one by one: work for the CPU, so it has a process. It says how far it has come."""
    total = 0
    for start in range(0, n, _CHUNK):
        context.progress(start, n, "adding up")
        for each in range(start, min(start + _CHUNK, n)):
            total += each
    context.progress(n, n, "done")
    return total


@task
def index_document(path: Annotated[str, Field(min_length=1, max_length=200)]) -> Index:
    """Count the words of a document in the samples folder, and list its sections."""
    return index(read_sample(Place().samples_folder(), path))


@task(timeout=120)
async def fetch_all(
    urls: Annotated[list[HttpUrl], Field(min_length=1, max_length=100)],
    at_once: Annotated[int, Field(ge=1, le=20)] = 5,
) -> list[Fetched]:
    """Fetch pages, at most `at_once` at a time; a page's error is in the result, and does not fail the job."""
    anywhere = Place().fetch_anywhere
    gate = asyncio.Semaphore(at_once)

    async with open_client() as client:

        async def fetch_one(url: HttpUrl) -> Fetched:
            async with gate:
                return await fetch(client, str(url), anywhere=anywhere)

        async with asyncio.TaskGroup() as group:
            fetching = [group.create_task(fetch_one(url)) for url in urls]
    return [each.result() for each in fetching]


@task(max_attempts=3, retry=Retry(base=0.5, on=(OSError,)))
def send_mail(
    context: JobContext, to: Address, subject: Line, body: Annotated[str, Field(max_length=100_000)]
) -> Receipt:
    """Send a mail to the demo's own catcher. Its Message-ID is the same in every attempt: a repeat can be told."""
    message = compose(to, subject, body, token=context.idempotency_token)
    context.log.info("the mail has the Message-ID %s in every attempt", message["Message-ID"])
    return deliver(message, Place().mail_server())


@task(max_attempts=3, retry=Retry(base=0.5))
def flaky(context: JobContext, fail_times: Annotated[int, Field(ge=0, le=1000)] = 2) -> str:
    """Fail on purpose in the first attempts."""
    if context.attempt <= fail_times:
        raise ConnectionError(f"attempt {context.attempt} fails on purpose")
    return f"attempt {context.attempt} went well"


@task(max_attempts=2, retry=None)
async def nap(context: JobContext, seconds: Annotated[float, Field(ge=0, le=3600)]) -> str:
    """Sleep: time to cancel the job, or to kill its process. Then it runs once more, from the beginning."""
    context.log.info("asleep for %g s", seconds)
    await asyncio.sleep(seconds)
    context.log.info("awake again")
    return f"slept for {seconds:g} s in attempt {context.attempt}"
