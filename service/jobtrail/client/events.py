"""What happens to jobs, as it happens: the events of a stream (https://html.spec.whatwg.org/#server-sent-events)."""

import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Literal
from uuid import UUID

from httpx_sse import ServerSentEvent

from jobtrail.client.parsing import read
from jobtrail.records import LogLine, Transition
from jobtrail.task.context import Progress


@dataclass(frozen=True, slots=True)
class Gap:
    """The stream does not go on where it was, but with what happened after `since`: `reason` says why."""

    reason: str
    since: datetime | None = None


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened to a job; of a gap, to the stream. `id`: where a stream goes on that begins after it."""

    kind: Literal["transition", "progress", "log", "gap"]
    what: Transition | Progress | LogLine | Gap
    job_id: UUID | None
    id: str


_KINDS: Final[dict[str, type]] = {"transition": Transition, "progress": Progress, "log": LogLine, "gap": Gap}


def event_of(sent: ServerSentEvent) -> Event | None:
    """None for what only concerns the connection."""
    if sent.event not in _KINDS:
        return None
    said: dict[str, Any] = json.loads(sent.data)
    job_id = UUID(said["job_id"]) if "job_id" in said else None
    kind: Any = sent.event
    return Event(kind, read(_KINDS[sent.event], said), job_id, sent.id)


def is_last(sent: ServerSentEvent) -> bool:
    """Whether nothing comes after it: the job has ended, and all was told."""
    return sent.event == "end" and json.loads(sent.data or "{}").get("reason") == "ended"
