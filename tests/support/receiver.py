"""A receiver of webhooks on this machine, which answers as it is told and keeps what it got."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any, cast

from standardwebhooks import Webhook

from jobtrail.events.delivery import delivery_task
from jobtrail.events.post import Sender
from jobtrail.jobs.services import Services
from jobtrail.outbound import Outbound, new_secret
from support.world import Place, services_at

SECRET = new_secret()

OK = b"HTTP/1.1 204 No Content\r\n\r\n"

Answer = Callable[[int, asyncio.StreamWriter], Awaitable[None]]
"""What is done for the request of this number, from 0."""


async def well(_number: int, writer: asyncio.StreamWriter) -> None:
    writer.write(OK)


def always(status: str, *headers: str) -> Answer:
    async def answer(_number: int, writer: asyncio.StreamWriter) -> None:
        writer.write("\r\n".join([f"HTTP/1.1 {status}", "Content-Length: 0", *headers, "", ""]).encode())

    return answer


@dataclass(frozen=True)
class Got:
    headers: dict[str, str]
    body: bytes

    @property
    def id(self) -> str:
        return self.headers["webhook-id"]

    def verified(self, secret: str = SECRET) -> dict[str, Any]:
        """Raises WebhookVerificationError."""
        found: dict[str, Any] = Webhook(secret).verify(self.body, self.headers)
        return found


@dataclass
class Receiver:
    port: int = 0
    answer: Answer = well
    got: list[Got] = field(default_factory=list)
    connections: int = 0
    serving: set[asyncio.Task[Any]] = field(default_factory=set)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/hooks?to=me"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self.serving.add(cast("asyncio.Task[Any]", asyncio.current_task()))
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
            headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:-2])}
            self.got.append(Got(headers, await reader.readexactly(int(headers["content-length"]))))
            await self.answer(len(self.got) - 1, writer)
            await writer.drain()
        except (asyncio.IncompleteReadError, asyncio.CancelledError, ConnectionError):
            pass
        finally:
            writer.close()


@asynccontextmanager
async def receiving(answer: Answer = well, tls: ssl.SSLContext | None = None) -> AsyncIterator[Receiver]:
    receiver = Receiver(answer=answer)
    server = await asyncio.start_server(receiver.serve, "127.0.0.1", 0, ssl=tls)
    receiver.port = server.sockets[0].getsockname()[1]
    try:
        yield receiver
    finally:
        server.close()
        for each in receiver.serving:
            each.cancel()
        await asyncio.gather(*receiver.serving, return_exceptions=True)


def services_that_deliver(place: Place, sender: Sender | None = None) -> Services:
    """They may call this machine, and have the task of deliveries."""
    outbound = Outbound.of(["127.0.0.1"], [SECRET])
    services = replace(services_at(place), outbound=outbound)
    services.catalog.own = (delivery_task(services, sender or Sender(outbound)),)
    return services
