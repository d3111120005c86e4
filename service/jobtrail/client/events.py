"""Events as they are sent (https://html.spec.whatwg.org/#server-sent-events), read into their records."""

import json
from typing import Any, Final, NamedTuple
from uuid import UUID

import httpx
from httpx_sse import ServerSentEvent

from jobtrail.client.parsing import MISREAD, read, reason_of
from jobtrail.client.problems import alien
from jobtrail.records import LogLine, Transition
from jobtrail.task.context import Progress
from jobtrail.task.job_events import Gap, JobEvent

_DATA: Final[dict[str, type]] = {"transition": Transition, "progress": Progress, "log": LogLine}


class Frame(NamedTuple):
    """`event`: None for what only concerns the connection. `begins_at`, of the first frame of a stream: the place
    before all that it tells. `is_last`: the job has ended, and all was told.
    """

    event: JobEvent | Gap | None = None
    begins_at: str | None = None
    is_last: bool = False


def frame_of(response: httpx.Response, sent: ServerSentEvent) -> Frame:
    """Raises ApiError for what the service does not send."""
    try:
        if not can_be_id(sent.id):
            raise ValueError(f"the id {sent.id!a:.60}")
        return _frame(sent)
    except MISREAD as error:
        raise alien(response, f"not with events of it: {sent.event!r:.60}, {reason_of(error)}") from error


def can_be_id(text: str) -> bool:
    """Whether it can be a header, Last-Event-ID."""
    return text.isascii() and text.isprintable() and text == text.strip()


def _frame(sent: ServerSentEvent) -> Frame:
    match sent.event:
        case "hello":
            begins_at = json.loads(sent.data).get("since")
            if begins_at is not None and not can_be_id(begins_at):
                raise ValueError(f"since: {begins_at!a:.60}")
            return Frame(begins_at=begins_at)
        case "end":
            return Frame(is_last=json.loads(sent.data).get("reason") == "ended")
        case "gap":
            return Frame(read(Gap, json.loads(sent.data)))
        case "transition" | "progress" | "log" as kind:
            said: dict[str, Any] = json.loads(sent.data)
            data: Any = read(_DATA[kind], said)
            place = sent.id if kind == "transition" else None
            return Frame(JobEvent(kind, UUID(said["job_id"]), int(said["attempt"]), data, place))
        case _:
            return Frame()


class Given:
    """The lines and the progress that a reader of a job has got. Only transitions move its place, so a stream that goes
    on there begins with what was said since.
    """

    def __init__(self) -> None:
        self._line = (0, 0)
        self._progress: tuple[int, Progress] | None = None

    def is_new(self, event: JobEvent | Gap) -> bool:
        """Whether the reader has not got it; from now on it has."""
        if isinstance(event, Gap):  # all begins anew
            self._line, self._progress = (0, 0), None
            return True
        if isinstance(event.data, LogLine):
            line = (event.data.attempt, event.data.number)
            is_new, self._line = line > self._line, max(line, self._line)
            return is_new
        if isinstance(event.data, Progress):
            progress = (event.attempt, event.data)
            is_new, self._progress = progress != self._progress, progress
            return is_new
        return True
