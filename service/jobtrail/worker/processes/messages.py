"""What a node and a process for tasks say to each other: each message in a frame, on a socket that only they have."""

import pickle
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from jobtrail.records import Claimed, Failure
from jobtrail.task.context import Progress
from jobtrail.task.outcome import Ended

_HEADER: Final = struct.Struct("!4sI")
_MARK: Final = b"jobt"
"""Before each length: what a task writes to a file number that is not its own is found out at once."""

HEADER_SIZE: Final = _HEADER.size


@dataclass(frozen=True, slots=True)
class Setup:
    """How a process is to be like its node. `modules`: where tasks are; `main`: how multiprocessing would run the main
    module of the node; `levels`: of loggers by name, "" the root; `node`: its process id; `cry`: the file number for
    last words.
    """

    modules: Sequence[str]
    main: Mapping[str, str]
    levels: Mapping[str, int]
    node: int
    cry: int


@dataclass(frozen=True, slots=True)
class Order:
    """An attempt that is to be run. `module`: of the task's function; `max_result` in bytes of JSON."""

    claimed: Claimed
    module: str
    max_result: int


@dataclass(frozen=True, slots=True)
class Tell:
    """The task of the order before it is to end."""


@dataclass(frozen=True, slots=True)
class Ready:
    """The process is up and has imported what it could."""


@dataclass(frozen=True, slots=True)
class Reported:
    progress: Progress


@dataclass(frozen=True, slots=True)
class Said:
    """A log record, its values plain."""

    record: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Unfound:
    """The task could not be imported, so nothing of it ran; its Retry was not there to be asked."""

    failure: Failure


@dataclass(frozen=True, slots=True)
class Done:
    ended: Ended | Unfound


class NonsenseError(Exception):
    """What came is no message."""


def framed(message: object) -> bytes:
    body = pickle.dumps(message)
    return _HEADER.pack(_MARK, len(body)) + body


def length_of(header: bytes) -> int:
    """How many bytes the message has that follows. Raises NonsenseError."""
    mark, length = _HEADER.unpack(header)
    if mark != _MARK:
        raise NonsenseError(header)
    return int(length)


def message_of(body: bytes) -> object:
    """Raises NonsenseError."""
    try:
        return pickle.loads(body)  # noqa: S301 - from a process that runs the same code as the same user
    except Exception as error:
        raise NonsenseError(body[:100]) from error
