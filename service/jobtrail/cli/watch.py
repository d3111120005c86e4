"""Jobs as they move, a line for each move, read from the service's own API."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from operator import itemgetter
from typing import Any, Final

import httpx

OFTEN: Final = 0.1
SELDOM: Final = 0.5
"""Seconds between two looks, while there is something to do and while there is nothing."""

MOST: Final = 50
"""Jobs of one look: the newest, and as many unfinished ones."""

MEMORY: Final = 1000
"""Jobs that are remembered; one that was forgotten and moves again is told from its beginning."""

ENDS: Final = frozenset({"succeeded", "failed", "cancelled"})

_WIDTH: Final = 100

Remark = Callable[[Mapping[str, Any], Sequence[Mapping[str, Any]]], Awaitable[str | None]]
"""What else there is to say of the last of these moves of a job."""


@dataclass(slots=True)
class _Known:
    status: str
    attempt: int
    told: int


class Watch:
    """`service` has the base URL of the jobs' API."""

    def __init__(self, service: httpx.AsyncClient, say: Callable[[str], None], remark: Remark) -> None:
        self._service = service
        self._say = say
        self._remark = remark
        self._known: dict[str, _Known] = {}
        self._notes: list[tuple[datetime, str]] = []

    async def begin(self, since: datetime) -> None:
        """What happened before is not told; a rescue by a node that has just started is."""
        for job in await self._listed():
            old = [move for move in await self._moves(job["id"]) if datetime.fromisoformat(move["at"]) < since]
            if old:
                self._known[job["id"]] = _Known(old[-1]["to_status"], old[-1]["attempt"], len(old))

    async def until(self, fact: Callable[[], bool]) -> None:
        while not fact():
            try:
                await self.look()
            except (httpx.TimeoutException, httpx.ReadError, httpx.RemoteProtocolError):
                continue  # a service that has ended refuses the next connection
            except httpx.HTTPStatusError as error:
                if error.response.status_code != httpx.codes.SERVICE_UNAVAILABLE:
                    raise
            await asyncio.sleep(SELDOM if self.have_ended(self._known) else OFTEN)

    def status(self, job_id: str) -> str | None:
        return known.status if (known := self._known.get(job_id)) else None

    def count(self, status: str) -> int:
        """How many jobs had it when last seen."""
        return sum(known.status == status for known in self._known.values())

    def have_ended(self, job_ids: Collection[str]) -> bool:
        return all(self.status(each) in ENDS for each in job_ids)

    def note(self, text: str) -> None:
        """Something else that happened now: it is told among the moves."""
        now = datetime.now(UTC)
        self._notes.append((now, f"{_clock(now)}  {text}"))

    async def look(self) -> None:
        """Tells the moves since the last look, of all jobs in the order in which they happened."""
        lines = [line for job in await self._listed() if self._has_moved(job) for line in await self._lines(job)]
        notes, self._notes = self._notes, []
        for _, line in sorted([*lines, *notes], key=itemgetter(0)):
            self._say(line)

    def _has_moved(self, job: Mapping[str, Any]) -> bool:
        known = self._known.get(job["id"])
        return known is None or (known.status, known.attempt) != (job["status"], job["attempt"])

    async def _lines(self, job: Mapping[str, Any]) -> list[tuple[datetime, str]]:
        told = known.told if (known := self._known.get(job["id"])) else 0
        moves = await self._moves(job["id"])
        last = moves[-1]
        if last["to_status"] != job["status"]:
            job = await self._job(job["id"]) or job  # it has moved on since it was listed
        lines = []
        for place, move in enumerate(moves[told:], told + 1):
            at = datetime.fromisoformat(move["at"])
            lines.append((at, _line(move, job)))
            if remark := await self._remark(job, moves[:place]):
                lines.append((at, f"{_clock(at)}  {remark}"))
        self._known[job["id"]] = _Known(last["to_status"], last["attempt"], len(moves))
        return lines

    async def _listed(self) -> list[dict[str, Any]]:
        """The newest jobs, those that wait or run, and those that did so when last seen."""
        newest = await self._page({"include": "result"})
        unfinished = await self._page({"include": "result", "status": ["pending", "running"]})
        found = {job["id"]: job for job in [*newest, *unfinished]}
        for job_id, known in list(self._known.items()):
            if job_id not in found and known.status not in ENDS and (job := await self._job(job_id)):
                found[job_id] = job
        for forgotten in list(self._known)[:-MEMORY]:
            del self._known[forgotten]
        return list(found.values())

    async def _page(self, query: Mapping[str, str | list[str]]) -> list[dict[str, Any]]:
        answer = await self._service.get("/jobs", params={"limit": MOST, **query})
        found: list[dict[str, Any]] = answer.raise_for_status().json()["items"]
        return found

    async def _job(self, job_id: str) -> dict[str, Any] | None:
        """None, and forgotten, when the row is gone."""
        answer = await self._service.get(f"/jobs/{job_id}")
        if answer.status_code == httpx.codes.NOT_FOUND:
            del self._known[job_id]
            return None
        found: dict[str, Any] = answer.raise_for_status().json()
        return found

    async def _moves(self, job_id: str) -> list[dict[str, Any]]:
        answer = await self._service.get(f"/jobs/{job_id}/transitions")
        found: list[dict[str, Any]] = answer.raise_for_status().json()["items"]
        return found


def _line(move: Mapping[str, Any], job: Mapping[str, Any]) -> str:
    at = _clock(datetime.fromisoformat(move["at"]))
    way = f"{move['from_status'] or '':>9} → {move['to_status']}"
    attempt = f"attempt {move['attempt']}" if move["attempt"] else ""
    said = outcome({**job, "status": move["to_status"], "error": move["error"]})
    return f"{at}  …{job['id'][-8:]}  {job['task']:<14}  {way:<21}  {attempt:<10}  {said}".rstrip()


def _clock(at: datetime) -> str:
    return at.astimezone().strftime("%H:%M:%S.%f")[:-3]


def outcome(job: Mapping[str, Any], width: int = _WIDTH) -> str:
    """What came of a job, or of its last attempt, in at most `width` characters of one line."""
    if job["status"] == "succeeded":
        # JSON's own escapes: nothing that a result holds reaches the terminal as a control character
        text = json.dumps(job["result"])
    elif job["status"] == "cancelled" and job["cancel_reason"]:
        text = json.dumps(job["cancel_reason"])
    elif job["error"]:
        text = json.dumps(f"{job['error']['type']}: {job['error']['message']}")[1:-1]
    else:
        text = ""
    return text if len(text) <= width else f"{text[: width - 1]}…"
