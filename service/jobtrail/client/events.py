"""Events as they are sent (https://html.spec.whatwg.org/#server-sent-events), read into their records."""

import json
from typing import Any, Final
from uuid import UUID

from httpx_sse import ServerSentEvent

from jobtrail.client.parsing import read
from jobtrail.records import LogLine, Transition
from jobtrail.task.context import Progress
from jobtrail.task.job_events import Gap, JobEvent

_DATA: Final[dict[str, type]] = {"transition": Transition, "progress": Progress, "log": LogLine}


def event_of(sent: ServerSentEvent) -> JobEvent | Gap | None:
    """None for what only concerns the connection."""
    if sent.event == "gap":
        return read(Gap, json.loads(sent.data))
    if sent.event not in _DATA:
        return None
    said: dict[str, Any] = json.loads(sent.data)
    kind: Any = sent.event
    data: Any = read(_DATA[kind], said)
    return JobEvent(kind, UUID(said["job_id"]), said["attempt"], data, sent.id if kind == "transition" else None)


def begins_at(sent: ServerSentEvent) -> str | None:
    """Of the first event of a stream: the id of the place before all that it tells."""
    return json.loads(sent.data).get("since") if sent.event == "hello" else None


def is_last(sent: ServerSentEvent) -> bool:
    """Whether nothing comes after it: the job has ended, and all was told."""
    return sent.event == "end" and json.loads(sent.data).get("reason") == "ended"
