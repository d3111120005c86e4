"""A mail, and a catcher on this machine that tells a repeat from a new one and sends nothing on."""

import asyncio
import smtplib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from email import message_from_bytes, policy
from email.message import EmailMessage
from socket import socket
from typing import Final, TypedDict

from aiosmtpd.smtp import SMTP, Envelope, Session

PATIENCE: Final = 10.0
"""Seconds."""


class Receipt(TypedDict):
    message_id: str
    accepted_by: str


@dataclass(frozen=True)
class Caught:
    """A mail that came in; `is_repeat`: one with its Message-ID was there before."""

    to: str
    subject: str
    message_id: str
    is_repeat: bool


def compose(to: str, subject: str, body: str, *, token: str) -> EmailMessage:
    """Raises ValueError for a header with a line break: it could begin a header of its own."""
    message = EmailMessage(policy=policy.SMTP)
    message["From"] = "Jobtrail <demo@jobtrail.invalid>"
    message["To"] = to
    message["Subject"] = subject
    message["Message-ID"] = f"<{token}@jobtrail.invalid>"
    message.set_content(body)
    return message


def deliver(message: EmailMessage, server: tuple[str, int]) -> Receipt:
    """Blocks. Raises OSError; smtplib's own errors are of that kind."""
    host, port = server
    with smtplib.SMTP(host, port, local_hostname="localhost", timeout=PATIENCE) as connection:
        connection.send_message(message)
    return {"message_id": message["Message-ID"], "accepted_by": f"{host}:{port}"}


@asynccontextmanager
async def catch(listening: socket, tell: Callable[[Caught], None]) -> AsyncIterator[None]:
    """Catches what comes to the socket, and tells each mail."""
    loop = asyncio.get_running_loop()
    catcher = _Catcher(tell)
    server = await loop.create_server(
        lambda: SMTP(catcher, hostname="localhost", ident="Jobtrail demo", loop=loop), sock=listening
    )
    try:
        yield
    finally:
        server.close()


class _Catcher:
    def __init__(self, tell: Callable[[Caught], None]) -> None:
        self._tell = tell
        self._seen: set[str] = set()

    async def handle_DATA(self, _server: SMTP, _session: Session, envelope: Envelope) -> str:  # noqa: N802 - its name
        message = message_from_bytes(bytes(envelope.original_content or b""), policy=policy.SMTP)
        message_id = str(message["Message-ID"])
        self._tell(Caught(str(message["To"]), str(message["Subject"]), message_id, message_id in self._seen))
        self._seen.add(message_id)
        return "250 caught"
