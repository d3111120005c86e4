"""Ids of jobs and of traces: UUID version 7 (RFC 9562, section 5.7), which rise within a process.

The time in an id keeps rows that are born together together in the index; no rule reads it.
"""

import re
from contextvars import ContextVar
from typing import Final, NamedTuple
from uuid import UUID

from uuid_utils.compat import uuid7

_TRACEPARENT: Final = re.compile(
    r"(?P<version>[0-9a-f]{2})-(?P<trace_id>[0-9a-f]{32})-(?P<parent_id>[0-9a-f]{16})-(?P<flags>[0-9a-f]{2})(?P<rest>-.*)?"
)


class Trace(NamedTuple):
    """The trace of a job. `parent`: the span that it was submitted under, as `<span>-<flags>` of a `traceparent`; where
    that is in another trace, as `<trace>-<span>-<flags>`.
    """

    id: str
    parent: str | None = None


running_trace: Final[ContextVar[Trace | None]] = ContextVar("jobtrail_running_trace", default=None)
"""The trace of the job that runs in this context."""


def new_job_id() -> UUID:
    return uuid7()


def new_trace_id() -> str:
    """32 hex digits. They rise with time like a job's id: a random value would cost the index of trace ids
    three times the write-ahead log.
    """
    return new_job_id().hex


def parse_traceparent(header: str | None) -> Trace | None:
    """The trace of a `traceparent` (W3C Trace Context, https://www.w3.org/TR/trace-context/), or None for a header that
    the specification tells us to ignore.

    A version that does not exist yet may carry more behind the flags (section "Versioning"); version 00 may not. Blanks
    around it are no part of it (RFC 9110, section 5.5): servers strip them, a test client that calls the app does not.
    """
    parts = _TRACEPARENT.fullmatch((header or "").strip(" \t"))
    if parts is None or parts["version"] == "ff" or (parts["version"] == "00" and parts["rest"] is not None):
        return None
    is_zero = not parts["trace_id"].strip("0") or not parts["parent_id"].strip("0")
    return None if is_zero else Trace(parts["trace_id"], f"{parts['parent_id']}-{parts['flags']}")
