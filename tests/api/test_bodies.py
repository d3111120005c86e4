"""How the body of a request is read: no further than the limit, and not to its end if the caller goes away."""

from collections.abc import AsyncIterator
from typing import Final

import httpx
import pytest

from support.service import MAX_BODY

JSON: Final = {"Content-Type": "application/json"}

pytestmark = pytest.mark.usefixtures("untouched")


@pytest.mark.parametrize("announced", [True, False])
async def test_a_body_is_read_no_further_than_the_limit(caller: httpx.AsyncClient, announced: bool) -> None:
    sent = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        while True:
            sent += 10_000
            assert not announced
            assert sent <= MAX_BODY + 20_000
            yield b" " * 10_000

    headers = {**JSON, **({"Content-Length": str(MAX_BODY + 1)} if announced else {})}
    answer = await caller.post("jobs", content=endless(), headers=headers)
    assert (answer.status_code, str(MAX_BODY) in answer.json()["detail"]) == (413, True)


async def test_a_caller_that_goes_away(caller: httpx.AsyncClient) -> None:
    """Nobody reads the answer; nothing may be stored or thrown."""
    scope = {
        "type": "http", "method": "POST", "path": "/v1/jobs", "raw_path": b"/v1/jobs", "query_string": b"",
        "root_path": "", "scheme": "http", "http_version": "1.1", "server": ("jobs.test", 80), "client": ("x", 1),
        "headers": [(b"content-type", b"application/json")],
    }  # fmt: skip
    messages = [{"type": "http.request", "body": b'{"task":', "more_body": True}, {"type": "http.disconnect"}]
    sent: list[dict[str, object]] = []

    async def receive() -> dict[str, object]:
        return messages.pop(0)

    async def send(message: dict[str, object]) -> None:
        sent.append(message)

    await caller._transport.app(scope, receive, send)  # type: ignore[attr-defined]
    assert sent[0]["status"] == 400
