"""Tasks whose attempts are counted where they begin."""

from collections import Counter

from sqlalchemy import text

from jobtrail import Fail, JobContext, task

BEGUN: Counter[tuple[str, int]] = Counter()
TABLE = "CREATE TABLE IF NOT EXISTS effects (job uuid NOT NULL, attempt int NOT NULL)"
_WRITE = text("INSERT INTO effects (job, attempt) VALUES (:job, :attempt)")


@task
async def on_loop(context: JobContext, how: str = "") -> str:
    BEGUN[str(context.job_id), context.attempt] += 1
    if "talk" in how:
        context.progress(1, 2)
        context.log.info("half of it")
    if "write" in how:
        session = await context.session()
        await session.execute(_WRITE, {"job": context.job_id, "attempt": context.attempt})
    if "fail" in how:
        raise Fail("on purpose")
    return how


@task
def in_thread(context: JobContext, how: str = "") -> str:
    BEGUN[str(context.job_id), context.attempt] += 1
    return how


@task(runs_in="process")
def in_process(how: str = "") -> str:
    return how
