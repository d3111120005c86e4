"""Keeps what a node does by itself, or for many callers together, out of a host's traces: each statement would begin a
trace of its own, dozens a minute while nothing happens.
"""

from opentelemetry import context


def trace_no_more() -> None:
    """From here on instrumentation of the database leaves out what is done in this context, and in copies of it."""
    found = context.set_value(context._SUPPRESS_INSTRUMENTATION_KEY, True)  # noqa: SLF001 - there is no other name for it
    context.attach(context.set_value("suppress_instrumentation", True, found))  # for older ones
