"""Who submits over HTTP, and the ledger of what was promised."""

import asyncio
import json
import os
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from random import Random
from typing import Any, NamedTuple, Self
from uuid import UUID

import httpx

ONCE = "once"
"""The tag of a job that may be started once, for those whose 202 was not heard too."""


class Promise(NamedTuple):
    """A job that was answered 202. `n` is the request's number, which the job has among its arguments."""

    id: UUID
    n: int


class Ledger:
    """A 202 counts once it is on the disk. Kept apart are the numbers of requests that were refused, so that nothing
    may be stored of them, and the reasons of those of which nobody knows. `wrong`: answers that nobody should get.
    """

    def __init__(self, path: Path) -> None:
        self.acknowledged: list[Promise] = []
        self.refused: list[int] = []
        self.unknown: Counter[str] = Counter()
        self.wrong: Counter[str] = Counter()
        self._file = path.open("ab", buffering=0)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def acknowledge(self, promise: Promise) -> None:
        self._write(promise._asdict())
        self.acknowledged.append(promise)

    def refuse(self, n: int) -> None:
        self._write({"n": n, "refused": True})
        self.refused.append(n)

    def forget(self, n: int, reason: str) -> None:
        """It may be stored or not."""
        self._write({"n": n, "unknown": reason})
        self.unknown[reason] += 1

    def _write(self, entry: dict[str, Any]) -> None:
        self._file.write(json.dumps(entry, default=str).encode() + b"\n")
        os.fsync(self._file.fileno())


REFUSED = "refused"

LONGEST = 120.0
"""Seconds for which a request is offered to whoever may be there."""


def wrong_of(answer: httpx.Response, *, right: int) -> str | None:
    """What is wrong with an answer that is neither that nor 503, with the seconds until one may come again."""
    if answer.status_code == 503 and not answer.headers.get("Retry-After", "").isdigit():
        return "503 without Retry-After"
    return None if answer.status_code in (right, 503) else f"status {answer.status_code}"


@dataclass(frozen=True)
class Ask:
    """A kind of job, with a share of all: a nap between two lengths, in seconds, what other arguments it has, and what
    else the request says.
    """

    task: str
    seconds: tuple[float, float] = (0.02, 0.3)
    share: float = 1.0
    max_attempts: int = 50
    wanted: dict[str, Any] = field(default_factory=dict)
    args: dict[str, Any] = field(default_factory=dict)


class Client:
    """`services` gives the addresses that are up now. A request that one of them does not take goes to another.

    `keyed` is the share of requests with an Idempotency-Key: those are sent again until somebody says 202. `first`: the
    number of the first request; no two may have the same.
    """

    def __init__(
        self,
        ledger: Ledger,
        random: Random,
        services: Callable[[], Sequence[str]],
        asks: Sequence[Ask],
        *,
        keyed: float = 0.0,
        patience: float = 3.0,
        first: int = 1,
    ) -> None:
        self.nobody = 0
        """How often nobody took a request, since it reached nobody."""
        self.ledger = ledger
        self.random = random
        self.numbers = count(first)
        self.services = services
        self._asks = asks
        self._keyed = keyed
        self._patience = patience
        self._due = 0.0

    async def load(
        self, jobs: int, *, rate: float, during: asyncio.Future[Any] | None = None, at_once: int = 12
    ) -> None:
        """Submit until `jobs` are acknowledged and `during` is over, at most `rate` a second."""
        wanted, self._due = len(self.ledger.acknowledged) + jobs, time.monotonic()

        async def submit() -> None:
            while len(self.ledger.acknowledged) < wanted or (during is not None and not during.done()):
                if during is not None and during.done() and during.exception():
                    return  # it is raised below
                await self._turn(rate)
                await self.submit(http)

        try:
            async with httpx.AsyncClient(trust_env=False, timeout=self._patience) as http, asyncio.TaskGroup() as group:
                for _ in range(at_once):
                    group.create_task(submit())
            if during is not None:
                await during
        finally:
            if during is not None:
                during.cancel()

    async def submit(self, http: httpx.AsyncClient) -> Promise | None:
        """One request, to whoever takes it; None when it is refused, or its outcome is not known."""
        [ask] = self.random.choices(self._asks, [each.share for each in self._asks])
        return await self.ask(http, ask)

    async def ask(self, http: httpx.AsyncClient, ask: Ask) -> Promise | None:
        """As `submit`, of this kind."""
        n = next(self.numbers)
        key = {"Idempotency-Key": f"request-{n}"} if self.random.random() < self._keyed else {}
        args = {"n": n, "seconds": round(self.random.uniform(*ask.seconds), 3), **ask.args}
        body = {"task": ask.task, "args": args, "max_attempts": ask.max_attempts, **ask.wanted}
        if ask.max_attempts == 1:
            body["tags"] = [ONCE]
        said = await self.offer(http, "jobs", body, key)
        return self.note(said, n) if isinstance(said, UUID) else self.give_up(said, n)

    async def offer(
        self, http: httpx.AsyncClient, path: str, body: dict[str, Any], headers: dict[str, str] | None = None
    ) -> UUID | str:
        """The id of what was stored; or REFUSED; or why it is not known whether it is. `headers`: an Idempotency-Key,
        with which a request is sent until it is stored.
        """
        give_up = time.monotonic() + LONGEST
        while True:
            assert time.monotonic() < give_up, "nobody takes a request"
            said = await self._send(http, path, body, headers or {})
            if isinstance(said, UUID) or (said is not None and not headers):
                return said
            await asyncio.sleep(0.05)

    def note(self, job_id: UUID, n: int) -> Promise:
        promise = Promise(job_id, n)
        self.ledger.acknowledge(promise)
        return promise

    def give_up(self, why: str, *numbers: int) -> None:
        """Note that these requests, which have no id, were refused, or that nothing is known of them."""
        for n in numbers:
            self.ledger.refuse(n) if why == REFUSED else self.ledger.forget(n, why)

    async def _send(
        self, http: httpx.AsyncClient, path: str, body: dict[str, Any], headers: dict[str, str]
    ) -> UUID | str | None:
        """As `offer`; or None, since nobody was reached."""
        services = self.services()
        if not services:
            return None
        try:
            answer = await http.post(f"{self.random.choice(services)}/v1/{path}", json=body, headers=headers)
        except (httpx.ConnectError, httpx.ConnectTimeout):
            self.nobody += 1
            return None
        except httpx.TransportError as error:
            return type(error).__name__
        assert answer.status_code == 202 or answer.is_server_error, answer.text
        if wrong := wrong_of(answer, right=202):
            self.ledger.wrong[wrong] += 1
        if answer.status_code == 503:
            said = str(answer.json()["type"]).rpartition("/")[2]
            return said if said == "outcome-unknown" else REFUSED
        return UUID(answer.json()["id"]) if answer.is_success else wrong

    async def _turn(self, rate: float) -> None:
        """Wait for a place in the row of requests."""
        now = time.monotonic()
        self._due = max(self._due + 1 / rate, now)  # what was missed is not made up for in a burst
        await asyncio.sleep(self._due - now)
