"""The trace id of a job, taken from the caller's `traceparent` (W3C Trace Context, https://www.w3.org/TR/trace-context/)."""

import re
from typing import Final

from jobtrail.job.ids import new_job_id

_TRACEPARENT: Final = re.compile(
    r"(?P<version>[0-9a-f]{2})-(?P<trace_id>[0-9a-f]{32})-(?P<parent_id>[0-9a-f]{16})-[0-9a-f]{2}(?P<rest>-.*)?"
)


def parse_traceparent(header: str | None) -> str | None:
    """The trace id, 32 hex digits, or None for a header that the specification tells us to ignore.

    A version that does not exist yet may carry more behind the flags (section "Versioning"); version 00 may not.
    """
    parts = _TRACEPARENT.fullmatch(header or "")
    if parts is None or parts["version"] == "ff":
        return None
    if parts["version"] == "00" and parts["rest"] is not None:
        return None
    if _is_zero(parts["trace_id"]) or _is_zero(parts["parent_id"]):
        return None
    return parts["trace_id"]


def new_trace_id() -> str:
    """32 hex digits. They rise with time like a job's id: a random value would cost the index of trace ids
    three times the write-ahead log.
    """
    return new_job_id().hex


def _is_zero(digits: str) -> bool:
    return not digits.strip("0")
