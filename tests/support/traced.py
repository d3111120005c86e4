"""Tasks that tell under which span they run."""

from opentelemetry import trace
from opentelemetry.trace import format_span_id, format_trace_id

from jobtrail import Again, JobContext, Limit, task


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


TASKS = [flaky, flaky_in_thread, where, where_in_process, where_limited, parent]
