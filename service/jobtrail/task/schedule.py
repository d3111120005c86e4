"""The definition of a schedule: which job, when, and what becomes of due times that were missed or meet a job that is
not over yet. In plain code: `after` and `until` answer for any moment. Its records are here too.
"""

import difflib
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import islice
from typing import Annotated, Any, Final, Literal
from uuid import UUID
from zoneinfo import ZoneInfo, available_timezones

from cronsim import CronSim, CronSimError
from pydantic import ConfigDict, Field, ValidationError, model_validator

from jobtrail import ranges
from jobtrail.errors import FieldError, InvalidInputError
from jobtrail.records import Job
from jobtrail.task.storable import step
from jobtrail.task.submission import WHOLE, Documented, Due, Priority, Queue, Seconds, Tags, reserved, seconds

Missed = Literal["once", "skip", "all"]
Overlap = Literal["skip", "queue", "allow"]

Every = Annotated[Seconds, Field(ge=ranges.MIN_EVERY, le=ranges.MAX_TTL)]

SHOWN_TIMES: Final = 100
"""Due times of the answer to a backfill."""

MOST_MISSED: Final = 100
"""Due times that are looked at after a time without nodes; older ones are passed over."""

_NAMED: Final = {"@hourly": "0 * * * *", "@daily": "0 0 * * *", "@weekly": "0 0 * * 0", "@monthly": "0 0 1 * *"}
_FIELDS: Final = 5


class ScheduleSpec(Documented):
    """What a schedule may say. Exactly one of `cron` and `every`; all other fields but `task` may be left out."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        json_schema_extra={  # what `flaws_of` asks for, as far as JSON Schema can say it
            "oneOf": [
                {"required": ["cron"], "properties": {"cron": {"type": "string"}, "every": {"type": "null"}}},
                {"required": ["every"], "properties": {"every": {"type": "number"}, "cron": {"type": "null"}}},
            ],
            "if": {"required": ["missed"], "properties": {"missed": {"const": "all"}}},
            "then": {"properties": {"overlap": {"enum": ["queue", "allow"]}}},
        },
    )

    task: Annotated[
        str, Field(strict=True, min_length=1, max_length=ranges.MAX_TASK, description="The name of a registered task.")
    ]
    args: Annotated[dict[str, Any], Field(default_factory=dict, description="The arguments of each of its jobs.")]
    cron: Annotated[
        Annotated[str, Field(strict=True, max_length=ranges.MAX_CRON)] | None,
        Field(description="Minute, hour, day of month, month, day of week; or @hourly @daily @weekly @monthly."),
    ] = None
    every: Annotated[
        Every | None,
        Field(description="Instead: seconds, counted from starts_at, else from the edit."),
    ] = None
    zone: Annotated[
        str, Field(strict=True, max_length=100, description="Of cron: a name of the IANA database, Europe/Paris.")
    ] = "UTC"
    missed: Annotated[
        Missed, Field(description="Due times that passed without a node: run one for all of them, none, or each.")
    ] = "once"
    overlap: Annotated[
        Overlap,
        Field(
            description="A due time while the job before has not ended: skip it, queue behind it, or allow both. With "
            "missed `all` it is queue, else skip, unless it is said."
        ),
    ] = "skip"
    jitter: Annotated[
        Annotated[Seconds, Field(ge=0, le=ranges.MAX_JITTER)],
        Field(description="Seconds: each job waits a random part of them after its due time."),
    ] = 0
    starts_at: Annotated[Due | None, Field(description="No due time before this (RFC 3339 with a zone).")] = None
    ends_at: Annotated[Due | None, Field(description="No due time after this.")] = None
    queue: Annotated[Queue | None, Field(description="Of its jobs; the task's own by default.")] = None
    priority: Annotated[Priority | None, Field(description="0 to 9, higher first; the task's by default.")] = None
    tags: Annotated[Tags, Field(description="Words to find its jobs by.")] = Field(default_factory=list)
    pause_after: Annotated[
        Annotated[int, Field(strict=True, ge=1, le=ranges.MAX_ATTEMPTS), WHOLE] | None,
        Field(description="It pauses itself after so many failed jobs in a row; null: never."),
    ] = None

    @model_validator(mode="before")
    @classmethod
    def _queue_all(cls, said: Any) -> Any:
        """Each of many missed due times runs, one after another."""
        if isinstance(said, dict) and said.get("missed") == "all":
            return {"overlap": "queue", **said}
        return said


def flaws_of(spec: ScheduleSpec) -> Sequence[FieldError]:
    """What no field shows by itself, each with its fix; none for a schedule that can be obeyed."""
    flaws = reserved(spec.task, spec.queue)
    if (spec.cron is None) == (spec.every is None):
        flaws.append(FieldError("/cron", "write exactly one of cron and every"))
    if (advice := _flaw_of_zone(spec.zone)) is not None:
        flaws.append(FieldError("/zone", advice))
    elif spec.cron is not None and (advice := _flaw_of_cron(spec.cron)) is not None:
        flaws.append(FieldError("/cron", advice))
    if spec.starts_at is not None and spec.ends_at is not None and spec.ends_at <= spec.starts_at:
        flaws.append(FieldError("/ends_at", "this is not after starts_at: give a later time, or leave it out"))
    if spec.missed == "all" and spec.overlap == "skip":
        advice = (
            "all would run one of them, as the others find it unfinished: leave overlap out, or write queue or allow"
        )
        flaws.append(FieldError("/missed", advice))
    return flaws


def _flaw_of_zone(zone: str) -> str | None:
    try:
        ZoneInfo(zone)
    except (ValueError, OSError, KeyError):  # no such file, a folder, a path that leads elsewhere
        near = difflib.get_close_matches(zone, available_timezones())
        hint = f"did you mean {' or '.join(near)}?" if near else "write one such as Europe/Paris, or UTC"
        return f"no zone of the IANA database is named {zone!r:.100}; {hint}"
    return None


def _flaw_of_cron(cron: str) -> str | None:
    text = _NAMED.get(cron.lower(), cron)
    how = "minute, hour, day of month, month, day of week, such as `0 7 * * mon-fri`"
    if cron.startswith("@") and text == cron:
        return f"{cron!r:.40} is not known: write one of {', '.join(_NAMED)}, or five fields"
    if len(text.split()) != _FIELDS:
        return f"this has {len(text.split())} fields, not {_FIELDS}: {how}"
    if "L" in text.upper().replace("JUL", ""):
        return "L is not supported: name the days, such as 28 of a month"
    try:
        if next(iter(CronSim(text, _LEAP)), None) is not None:
            return None
    except CronSimError as error:
        return f"{error}, or there is no such day: {how}"
    except (ValueError, AssertionError):
        pass
    return "it is never due: name a day that there is"


_LEAP: Final = datetime(2024, 1, 1)  # noqa: DTZ001 - no zone is asked here


@dataclass(frozen=True, slots=True)
class Schedule:
    """Jobs of a task at certain times."""

    name: str
    state: Annotated[str, Field(description="active; paused; disabled: no living node declares it; ended.")]
    task: str
    args: Mapping[str, Any]
    cron: str | None
    every: Annotated[timedelta | None, Field(description="Seconds.")]
    zone: str
    missed: Missed
    overlap: Overlap
    jitter: Annotated[timedelta, Field(description="Seconds.")]
    starts_at: datetime | None
    ends_at: datetime | None
    queue: Annotated[str | None, Field(description="null: the task's own.")]
    priority: Annotated[int | None, Field(description="null: the task's own.")]
    tags: Sequence[str]
    pause_after: int | None
    next_at: Annotated[datetime | None, Field(description="The next due time; null: there is none.")]
    edited_at: datetime
    edited_by: str
    declared: Annotated[bool, Field(description="By the code of a task.")]
    override_at: Annotated[datetime | None, Field(description="Since when an edit stands in for what is declared.")]
    override_by: str | None
    paused_at: datetime | None
    paused_by: str | None
    pause_reason: str | None
    disabled_at: datetime | None
    resumed_at: Annotated[datetime | None, Field(exclude=True)]
    edition: Annotated[int, Field(exclude=True)]

    @property
    def since(self) -> datetime:
        """No due time before counts."""
        return max(self.edited_at, self.resumed_at or self.edited_at)

    def spec(self) -> ScheduleSpec:
        """Raises InvalidInputError for a row that was written by hand and cannot be obeyed."""
        found = {name: getattr(self, name) for name in ScheduleSpec.model_fields}
        for name in ("every", "jitter"):
            found[name] = None if found[name] is None else found[name].total_seconds()
        try:
            spec = ScheduleSpec.model_validate(found | {"tags": list(self.tags)})
        except ValidationError as error:
            flaws = [("".join(map(step, each["loc"])), each["msg"]) for each in error.errors(include_url=False)]
            raise InvalidInputError([FieldError(*flaw) for flaw in flaws]) from None
        if found_flaws := flaws_of(spec):
            raise InvalidInputError(found_flaws)
        return spec


@dataclass(frozen=True, slots=True)
class Detail:
    """A schedule with its next due times, its last jobs, and how many due times came to nothing, by the reason."""

    schedule: Schedule
    next_times: Sequence[datetime]
    last_jobs: Sequence[Job]
    skipped: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Backfill:
    """Due times of a schedule that become jobs, or would."""

    schedule: str
    dry_run: bool
    count: Annotated[int, Field(description="Due times, each with a job of its own.")]
    times: Annotated[Sequence[datetime], Field(description=f"The first {SHOWN_TIMES} of them.")]
    batch_id: Annotated[UUID | None, Field(description="The batch that counts the jobs; null after a dry run.")]


@dataclass(frozen=True, slots=True)
class Timetable:
    """The due times of a schedule. `anchor`: what `every` counts from where there is no `starts_at`."""

    spec: ScheduleSpec
    anchor: datetime

    def after(self, moment: datetime) -> datetime | None:
        """The first due time that is later; None after the last one."""
        return next(self.following(moment), None)

    def following(self, moment: datetime) -> Iterator[datetime]:
        """The due times that are later, in their order."""
        spec = self.spec
        if spec.starts_at is not None:
            moment = max(moment, spec.starts_at - timedelta(microseconds=1))
        for due in _fixed(self, moment) if spec.cron is None else _of_cron(spec, moment):
            if spec.ends_at is not None and due > spec.ends_at:
                return
            yield due

    def until(self, first: datetime, now: datetime) -> Sequence[datetime]:
        """The due times from `first`, which is one, to `now`: the last MOST_MISSED of them."""
        if self.spec.cron is None and (every := seconds(self.spec.every)) is not None:
            first += max(0, (now - first) // every - MOST_MISSED) * every
        found = [first, *islice(self.following(first), MOST_MISSED)]
        if found[-1] <= now and self.spec.cron is not None and len(found) > MOST_MISSED:
            found = sorted(islice(_of_cron(self.spec, now + timedelta(microseconds=1), reverse=True), MOST_MISSED))
        return [due for due in found if due <= now][-MOST_MISSED:]


def _fixed(table: Timetable, moment: datetime) -> Iterator[datetime]:
    every, start = timedelta(seconds=table.spec.every or math.inf), table.spec.starts_at or table.anchor
    number = (moment - start) // every + 1
    number = max(number, 0 if table.spec.starts_at is not None else 1)
    try:
        while True:
            yield start + number * every
            number += 1
    except OverflowError:  # after the year 9999
        return


def _of_cron(spec: ScheduleSpec, moment: datetime, *, reverse: bool = False) -> Iterator[datetime]:
    """In UTC. A time that the zone's clock leaves out is due when it goes on, one that it has twice is due once, unless
    the minute or hour begins with a star.
    """
    text = _NAMED.get((spec.cron or "").lower(), spec.cron or "")
    try:
        for local in CronSim(text, moment.astimezone(ZoneInfo(spec.zone)), reverse=reverse):
            due = local.astimezone(moment.tzinfo)
            # begun in the second half of a repeated hour it answers with a time in the first
            if reverse or due > moment:
                yield due
    except (OverflowError, ValueError):  # after the year 9999
        return
