"""Reading server-sent events as WHATWG HTML says, section 9.2.6."""

import json
from collections.abc import AsyncIterator
from typing import Any, NamedTuple

import httpx


class Sent(NamedTuple):
    event: str
    data: Any
    id: str | None


async def read(answer: httpx.Response) -> AsyncIterator[Sent]:
    fields: dict[str, str] = {}
    async for line in answer.aiter_lines():
        if line:
            name, _, value = line.partition(":")
            if name:
                fields[name] = value.removeprefix(" ")
        elif fields:
            if "data" in fields:
                yield Sent(fields.get("event", "message"), json.loads(fields["data"]), fields.get("id"))
            fields = {}


async def last_id(answer: httpx.Response) -> str:
    """That with which the reader of a stream that has ended goes on."""
    found = [line.removeprefix("id: ") async for line in answer.aiter_lines() if line.startswith("id: ")]
    return found[-1]
