"""Messages between a node and a process for its tasks: pickled, and framed for the one socket that the two share."""

import asyncio
import pickle
import socket
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from jobtrail.errors import JobtrailError
from jobtrail.records import Claimed, Failure

# A process also sends Progress, and Returned or Raised at the end of an attempt, as they are.


@dataclass(frozen=True, slots=True)
class Setup:
    """First message: what a process takes over from its node.

    `modules`: names of those that declare tasks; `main`: how multiprocessing would import the main module; `levels`: of
    loggers by name, "" is the root; `node`: process id; `crash_writer`: file descriptor for the traceback of a crash.
    """

    modules: Sequence[str]
    main: Mapping[str, str]
    levels: Mapping[str, int]
    node: int
    crash_writer: int


@dataclass(frozen=True, slots=True)
class Order:
    """Attempt to be run. `module`: of the task's function; `max_result` in bytes of JSON; `traceparent`: its span."""

    claimed: Claimed
    module: str
    max_result: int
    traceparent: str | None = None


@dataclass(frozen=True, slots=True)
class Cancel:
    """Request to end the task of the latest order."""


@dataclass(frozen=True, slots=True)
class Ready:
    """Answer to the setup: the process has imported what it could."""


@dataclass(frozen=True, slots=True)
class Logged:
    """Attributes of a log record, their values plain: neither side needs the other's classes."""

    record: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """Cursor to be stored, as JSON text. `number`: for the answer, never the same again in this process."""

    number: int
    value: str


@dataclass(frozen=True, slots=True)
class Checkpointed:
    """Answer to a checkpoint: it is stored, or was refused, or the task is to end, which a Cancel before this says."""

    number: int
    refusal: JobtrailError | None


@dataclass(frozen=True, slots=True)
class ImportFailed:
    """End of an attempt whose task could not be imported: nothing of it ran, and the process has not seen its Retry."""

    failure: Failure


class ProtocolError(Exception):
    """The bytes are no message."""


_HEADER: Final = struct.Struct("!4sI")
_MARK: Final = b"jobt"
"""Before each length, so that what a task writes to a file number that is not its own is found out at once."""


def framed(message: object) -> bytes:
    body = pickle.dumps(message)
    return _HEADER.pack(_MARK, len(body)) + body


async def read(reader: asyncio.StreamReader) -> object:
    """The next message, for a node. Raises EOFError when the process hung up, ProtocolError."""
    try:
        length = _length_of(await reader.readexactly(_HEADER.size))
        return _message_of(await reader.readexactly(length))
    except asyncio.IncompleteReadError as error:
        raise EOFError from error


def receive(connection: socket.socket) -> object:
    """The next message, for a process: blocks. Raises EOFError when the node hung up, ProtocolError."""
    length = _length_of(_exactly(connection, _HEADER.size))
    return _message_of(_exactly(connection, length))


def _exactly(connection: socket.socket, count: int) -> bytes:
    parts = bytearray()
    while len(parts) < count:
        part = connection.recv(count - len(parts))
        if not part:
            raise EOFError
        parts += part
    return bytes(parts)


def _length_of(header: bytes) -> int:
    mark, length = _HEADER.unpack(header)
    if mark != _MARK:
        raise ProtocolError(header)
    return int(length)


def _message_of(body: bytes) -> object:
    try:
        return pickle.loads(body)  # noqa: S301 - from a process that runs the same code as the same user
    except Exception as error:
        raise ProtocolError(body[:100]) from error
