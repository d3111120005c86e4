"""Read by mypy and pyright, never run: each line that is marked is refused by both, and no other."""
# pyright: strict

from typing import Any

from fastapi import Depends

from jobtrail import JobContext, JobHandle, Jobs, Jobtrail, Retry, Task, task
from jobtrail.client import AsyncClient, Client, submission
from jobtrail.testing import Workbench


@task
async def send_welcome(to: str, copies: int = 1) -> bool:
    return bool(to) and copies > 0


@task(max_attempts=2)
async def fetch(context: JobContext, urls: list[str], *, at_once: int = 5) -> dict[str, int]:
    await context.submit(undecorated, 1)  # error
    context.progress("1")  # error
    return dict.fromkeys(urls, at_once)


@task
def resize(width: int) -> str:
    return str(width)


@task
def of_dict(context: JobContext, /, payload: dict[str, Any]) -> dict[str, Any]:
    return {"by": context.task, **payload}


@Retry()
def patient(n: int) -> str:
    return str(n)


def count(number: int) -> None: ...


def of_text(job: JobHandle[str]) -> None: ...


def undecorated(n: int) -> None: ...


def staff() -> None: ...


async def endpoint(jobs: Jobs, context: JobContext) -> None:
    jobs.add_task(send_welcome, 1)  # error
    jobs.add_task(send_welcome)  # error
    jobs.add_task(send_welcome, "ada", copis=2)  # error
    jobs.add_task(send_welcome, "ada", to="bob")  # error
    jobs.add_task(undecorated, 1)  # error
    jobs.add_task(fetch, context, ["a"])  # error
    jobs.add_task(fetch, [1])  # error
    jobs.add_task(fetch, ["a"], 5)  # error
    jobs.add_task(of_dict, 5)  # error
    count(await jobs.add_task(of_dict, {}).wait())  # error
    job = jobs.add_task(fetch, ["a"])
    count(await job.wait())  # error
    of_text(job)  # error
    count(job.result)  # error
    await job.wait(timeout="5")  # error
    jobs.options(prio=1).add_task(resize, 1)  # error
    jobs.options(run_at="tomorrow")  # error
    jobs.options(session="s")  # error
    jobs.options(queue="mail").add_task(resize, "1")  # error
    count(await jobs.options(queue="mail").add_task(resize, 1).wait())  # error


def plain(jobs: Jobs) -> None:
    jobs.add_task(resize, "1")  # error
    jobs.add_job(resize, 1)  # error


async def over_http(client: AsyncClient, blocking: Client) -> None:
    await client.submit(send_welcome, 1)  # error
    await client.submit("send_welcome", "ada")  # error
    await client.options(prio=1).submit(send_welcome, "ada")  # error
    count(await (await client.submit(resize, 1)).wait())  # error
    await client.amend(1, priority="5")  # error
    blocking.submit(send_welcome, 1)  # error
    blocking.cancel("id", "reason")  # error
    count(blocking.get("id"))  # error
    submission(send_welcome)  # error


async def script(trail: Jobtrail) -> None:
    await trail.submit(send_welcome, 1)  # error
    await trail.options(wait=5).submit(resize, 1)  # error
    await trail.options(unique_key="k", on_duplicate="both").submit(resize, 1)  # error
    count(await (await trail.submit(resize, 1)).wait())  # error
    trail.router()  # error
    trail.router(read=staff)  # error
    trail.router(read=Depends(staff), operate="nobody")  # error


Jobtrail(who=staff)  # error
Jobtrail("postgresql://localhost/app")  # error
Jobtrail(tasks=[undecorated])  # error
Retry(factor="2")  # error
Retry()(1)  # error
Retry().call(patient, "1")  # error
patient("1")  # error
other: Task[[str], str] = resize  # error


@task(max_attempts="5")  # error
async def told() -> None: ...


@task(retries=5)  # error
async def unknown() -> None: ...


def test_of_a_host(jobtrail: Workbench) -> None:
    jobtrail.assert_submitted(send_welcome, to=1)  # error
    jobtrail.assert_submitted(fetch, at_once=2)  # error
    jobtrail.assert_submitted(undecorated)  # error
