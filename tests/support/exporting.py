"""Tasks of processes that write each span, as a line of JSON, to the file that SPANS names."""

import os
from pathlib import Path

from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import ConsoleSpanExporter, SimpleSpanProcessor

from jobtrail import task
from support.traced import flaky

__all__ = ["flaky", "work_in_process"]

_out = Path(os.environ["SPANS"]).open("a")  # noqa: SIM115 - until the process ends
_provider = TracerProvider()
_provider.add_span_processor(
    SimpleSpanProcessor(ConsoleSpanExporter(out=_out, formatter=lambda span: span.to_json(indent=None) + "\n"))
)
trace.set_tracer_provider(_provider)


@task(runs_in="process")
def work_in_process() -> int:
    with trace.get_tracer("of the task").start_as_current_span("work"):
        return os.getpid()
