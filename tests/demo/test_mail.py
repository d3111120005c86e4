import asyncio
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from uuid import uuid4

import pytest

from jobtrail.demo.mail import Caught, catch, compose
from jobtrail.demo.tasks import send_mail
from jobtrail.job.errors import InvalidArgumentsError, SettingsError
from support.contexts import context_of

MAIL = {"to": "ada@example.org", "subject": "Grüße", "body": "Hello\n.\nFrom here"}


@dataclass
class Catcher:
    port: int
    caught: list[Caught] = field(default_factory=list)


@pytest.fixture
async def catcher(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Catcher]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        catcher = Catcher(listening.getsockname()[1])
        monkeypatch.setenv("JOBTRAIL_DEMO_MAIL_PORT", str(catcher.port))
        async with catch(listening, catcher.caught.append):
            yield catcher


async def test_a_mail_is_caught_and_its_repeat_is_told(catcher: Catcher) -> None:
    ours = context_of("send_mail")
    message_id = f"<{ours.idempotency_token}@jobtrail.invalid>"
    for _ in range(2):
        receipt = await asyncio.to_thread(send_mail, ours, **MAIL)
        assert receipt == {"message_id": message_id, "accepted_by": f"127.0.0.1:{catcher.port}"}
    assert catcher.caught == [
        Caught("ada@example.org", "Grüße", message_id, is_repeat=False),
        Caught("ada@example.org", "Grüße", message_id, is_repeat=True),
    ]


async def test_other_jobs_send_other_mails(catcher: Catcher) -> None:
    for _ in range(2):
        await asyncio.to_thread(send_mail, context_of("send_mail"), **MAIL)
    assert [each.is_repeat for each in catcher.caught] == [False, False]


async def test_without_a_catcher_nothing_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("JOBTRAIL_DEMO_MAIL_PORT", raising=False)
    with pytest.raises(SettingsError, match=r"^JOBTRAIL_DEMO_MAIL_PORT is not set"):
        send_mail(context_of("send_mail"), **MAIL)


@pytest.mark.parametrize("broken", ["\r\n", "\n", "\r"])
@pytest.mark.parametrize("place", ["to", "subject"])
def test_a_line_break_in_a_header_is_refused(place: str, broken: str) -> None:
    """At the door, by the signature; and once more by the mail itself, for whoever calls the function."""
    args = {**MAIL, place: f"ada@example.org{broken}Bcc: eve@example.org"}
    with pytest.raises(InvalidArgumentsError) as refused:
        send_mail.signature.check(args)
    assert [flaw.pointer for flaw in refused.value.flaws] == [f"/{place}"]
    with pytest.raises(ValueError, match="linefeed or carriage return"):
        compose(**args, token=str(uuid4()))


@pytest.mark.parametrize(
    "to", ["", "ada", "ada@", "@example.org", "ada@example.org, eve@example.org", "Ada <ada@example.org>", "a@b@c"]
)
def test_what_is_not_one_address_is_refused(to: str) -> None:
    with pytest.raises(InvalidArgumentsError, match="/to"):
        send_mail.signature.check({**MAIL, "to": to})
