"""Tasks that tell under which span they run."""

import asyncio

from opentelemetry import trace
from opentelemetry.trace import format_span_id, format_trace_id

from jobtrail import Again, JobContext, Jobtrail, Limit, Settings, task


def here() -> str:
    """The current span, as a `traceparent`; without one it is all zeros."""
    found = trace.get_current_span().get_span_context()
    return f"00-{format_trace_id(found.trace_id)}-{format_span_id(found.span_id)}-{found.trace_flags:02x}"


def _works_the_second_time(context: JobContext) -> str:
    with trace.get_tracer("of the task").start_as_current_span("work"):
        if context.attempt == 1:
            raise Again(0, "not there yet")
        return here()


@task(max_attempts=2)
async def flaky(context: JobContext) -> str:
    return _works_the_second_time(context)


@task(max_attempts=2)
def flaky_in_thread(context: JobContext) -> str:
    return _works_the_second_time(context)


@task
async def where() -> str:
    return here()


@task(runs_in="process")
def where_in_process() -> str:
    return here()


@task(limits=[Limit("one:{name}", 1)])
async def where_limited(name: str) -> str:
    return f"{name} {here()}"


@task
async def parent(context: JobContext) -> str:
    return str(await context.submit(where))


RUNNING: list[tuple[Jobtrail, asyncio.AbstractEventLoop]] = []
"""The Jobtrail of this process, for tasks that submit by it."""


async def _submitted(trail: Jobtrail) -> str:
    return str((await trail.submit(where)).id)


@task
async def parent_by_trail() -> str:
    return await _submitted(RUNNING[-1][0])


@task
def parent_by_trail_in_thread() -> str:
    trail, loop = RUNNING[-1]
    return asyncio.run_coroutine_threadsafe(_submitted(trail), loop).result()


@task(runs_in="process")
def parent_by_trail_in_process(url: str) -> str:
    async def submitted() -> str:
        async with Jobtrail(Settings(database_url=url), tasks=[where]) as trail:
            return await _submitted(trail)

    return asyncio.run(submitted())


PARENTS_BY_TRAIL = [parent_by_trail, parent_by_trail_in_thread, parent_by_trail_in_process]

TASKS = [*PARENTS_BY_TRAIL, flaky, flaky_in_thread, where, where_in_process, where_limited, parent]
