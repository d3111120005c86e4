"""Tasks that write through their job session, and end in all the ways that a task can end."""

import asyncio

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from jobtrail import Fail, JobContext, Retry, task

TABLE = "CREATE TABLE IF NOT EXISTS effects (job uuid NOT NULL, attempt int NOT NULL)"


async def _end(how: str, context: JobContext, session: AsyncSession) -> str:
    match how:
        case "raise":
            raise Fail("on purpose")
        case "once" if context.attempt == 1:
            raise ConnectionError("once")
        case "wait":
            await asyncio.sleep(60)
        case "deaf":
            await _go_on(context)
        case "commit":
            await session.commit()
        case "COMMIT":
            await session.execute(text("COMMIT"))
        case "async with":
            async with session:
                return "written"
    return "x" * 2_000_000 if how == "large" else "written"


async def _go_on(context: JobContext) -> None:
    while not context.cancelled:
        try:
            await asyncio.sleep(0.01)
        except asyncio.CancelledError:
            continue
    await asyncio.sleep(0.5)


@task(max_attempts=2, retry=Retry(base=0.01, max=0.01, on=(ConnectionError,)))
async def book(context: JobContext, how: str = "well") -> str:
    session = await context.session()
    assert session is await context.session(), "one session for each attempt"
    await session.execute(
        text("INSERT INTO effects (job, attempt) VALUES (:job, :attempt)"),
        {"job": context.job_id, "attempt": context.attempt},
    )
    return await _end(how, context, session)


@task
def book_in_thread(context: JobContext) -> str:
    return str(context.session())


@task(runs_in="process")
def book_in_process(context: JobContext) -> str:
    return str(context.session())


@task
def submit_in_thread(context: JobContext) -> str:
    return str(context.submit(book))


OPENING: list["asyncio.Future[AsyncSession]"] = []


@task
async def ask_and_leave(context: JobContext) -> None:
    OPENING.append(asyncio.ensure_future(context.session()))
    await asyncio.shield(OPENING[-1])
