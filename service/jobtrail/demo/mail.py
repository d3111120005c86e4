"""A catcher of mail on this machine that tells a repeat from a new one and sends nothing on."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from email import message_from_bytes, policy
from socket import socket

from aiosmtpd.smtp import SMTP, Envelope, Session


@dataclass(frozen=True)
class Caught:
    """A mail that came in; `is_repeat`: one with its Message-ID was there before."""

    to: str
    subject: str
    message_id: str
    is_repeat: bool


@asynccontextmanager
async def catch(listening: socket, tell: Callable[[Caught], None]) -> AsyncIterator[None]:
    """Catches what comes to the socket, and tells each mail."""
    loop, catcher = asyncio.get_running_loop(), _Catcher(tell)
    server = await loop.create_server(
        lambda: SMTP(catcher, hostname="localhost", ident="Jobtrail demo", loop=loop), sock=listening
    )
    try:
        yield
    finally:
        server.close()


@dataclass
class _Catcher:
    tell: Callable[[Caught], None]
    seen: set[str] = field(default_factory=set)

    async def handle_DATA(self, _server: SMTP, _session: Session, envelope: Envelope) -> str:  # noqa: N802 - its name
        message = message_from_bytes(bytes(envelope.original_content or b""), policy=policy.SMTP)
        message_id = str(message["Message-ID"])
        self.tell(Caught(str(message["To"]), str(message["Subject"]), message_id, message_id in self.seen))
        self.seen.add(message_id)
        return "250 caught"
