"""The receiver of the guide, taken as it is written, with what Jobtrail sends."""

import time
from pathlib import Path
from types import ModuleType

import httpx
import pytest

from jobtrail.events.post import signatures
from jobtrail.outbound import new_secret
from support.readme import blocks
from support.receiver import SECRET

GUIDE = (Path(__file__).parents[2] / "docs" / "guide.md").read_text()
BODY = b'{"type":"job.failed","data":{"job_id":"1"}}'


def sent(message: str, *, secret: str = SECRET, at: float = 0) -> dict[str, str]:
    now = int(time.time() - at)
    signature = signatures([secret], message, now, BODY)
    return {"webhook-id": message, "webhook-timestamp": str(now), "webhook-signature": signature}


async def test_the_receiver_of_the_guide(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("SECRET", SECRET)
    receiver = ModuleType("receiver")
    [text] = [each.text for each in blocks(GUIDE) if each.text.startswith("# myapp/receiver.py")]
    exec(compile(text, "receiver.py", "exec"), vars(receiver))  # noqa: S102 - it is ours
    transport = httpx.ASGITransport(receiver.app)
    async with httpx.AsyncClient(transport=transport, base_url="http://receiver.test") as client:
        for headers, status in (
            (sent("1"), 204), (sent("1"), 204), (sent("2"), 204), (sent("3", secret=new_secret()), 400),
            (sent("4", at=301), 400), ({**sent("5"), "webhook-id": "6"}, 400), ({}, 400),
        ):  # fmt: skip
            assert (await client.post("/hooks", content=BODY, headers=headers)).status_code == status
    assert capsys.readouterr().out == "job.failed 1\n" * 2
