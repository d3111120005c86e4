"""Reading a body before FastAPI does: announced as JSON, never longer than the limit, strictly parsed."""

import asyncio
from datetime import timedelta
from typing import Any, Final

from starlette.requests import ClientDisconnect, Request

from jobtrail.api.problem_types import BodyTooLargeError, BodyTooSlowError, ContentTypeError
from jobtrail.task.storable import parse

_JSON: Final = "application/json"


class ReadRequest(Request):
    """A request whose body was read: FastAPI gets the value and does not parse it again."""

    def __init__(self, request: Request, raw: bytes, value: object) -> None:
        super().__init__(request.scope, request.receive)
        self._headers = request.headers
        self._raw = raw
        self._value = value

    async def body(self) -> bytes:
        return self._raw

    async def json(self) -> Any:
        return self._value


async def read(request: Request, *, limit: int, within: timedelta, required: bool) -> ReadRequest:
    """The request with its parsed body. An empty body is none, where none is `required`.

    Raises ContentTypeError, BodyTooLargeError, BodyTooSlowError, NotJsonError, InvalidInputError, and ClientDisconnect.
    """
    if required:
        _require_json(request)
    try:
        async with asyncio.timeout(within.total_seconds()):
            raw = await _take(request, limit)
    except TimeoutError:
        raise BodyTooSlowError(within.total_seconds()) from None
    if not required:
        if not raw:
            return ReadRequest(request, b"", None)
        _require_json(request)
    return ReadRequest(request, raw, parse(raw))


def _require_json(request: Request) -> None:
    """`application/json`, or a type built on it (RFC 6839, section 3.1)."""
    said = request.headers.get("content-type")
    if said == _JSON:
        return
    media = (said or "").partition(";")[0].strip().lower()
    if media != _JSON and not (media.startswith("application/") and media.endswith("+json")):
        raise ContentTypeError(said)


async def _take(request: Request, limit: int) -> bytes:
    """The bytes, or BodyTooLargeError as soon as the limit is passed: by the announcement, else while reading."""
    announced = request.headers.get("content-length", "")
    if announced.isdecimal() and (len(announced) > len(str(limit)) + 20 or int(announced) > limit):
        raise BodyTooLargeError(limit)
    taken, more = bytearray(), True
    while more:
        message = await request.receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        taken += message.get("body", b"")
        if len(taken) > limit:
            raise BodyTooLargeError(limit)
        more = message.get("more_body", False)
    return bytes(taken)
