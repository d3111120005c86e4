"""What the demo shows of the history; the test plays the node, in SQL."""

import subprocess
from collections.abc import Callable
from uuid import UUID, uuid4

import pytest

from jobtrail.demo.trail import Trail
from jobtrail.jobs.rescue import rescue
from jobtrail.status import Status
from support.rows import born, moved
from support.world import Place, judge, services_at


@pytest.fixture(scope="module")
def dead() -> int:
    """The id of a process that was there."""
    process = subprocess.Popen(["true"])
    process.wait()
    return process.pid


async def trail_of(place: Place, show: Callable[[str], None]) -> Trail:
    return Trail(services_at(place), show, await place.value("SELECT clock_timestamp()"))


async def running(place: Place, pid: int | None = None) -> UUID:
    """A job in the first of two attempts, whose lease is over; its node has this `pid`, or has signed off."""
    job_id, node_id = await born(place, "nap", max_attempts=2), uuid4()
    if pid is not None:
        await place.psql.execute(
            """INSERT INTO jobtrail.nodes (id, host, pid, version, queues, tasks, slots, lease)
               VALUES ($1, 'here', $2, '1', '{}', '{}', '{}', '0')""",
            node_id, pid,
        )  # fmt: skip
    claim = """UPDATE jobtrail.jobs SET status = 'running', attempt = 1, node_id = $2, started_at = now(),
        lease_until = now() - interval '1 s' WHERE id = $1"""
    await place.psql.execute(claim, job_id, node_id)
    return job_id


def after_arrow(line: str) -> str:
    return line.rpartition("→")[2]


async def test_a_job_that_begins_anew_and_ends_has_survived(place: Place, dead: int) -> None:
    said: list[str] = []
    trail = await trail_of(place, said.append)
    job_id = await running(place, dead)
    await rescue(place.database, node=await judge(place), by="node")
    await trail.look()
    assert not trail.have_begun([job_id])
    await moved(place, job_id, Status.RUNNING)
    await trail.look()
    assert (trail.have_begun([job_id]), trail.have_ended([job_id])) == (True, False)
    await moved(place, job_id, Status.SUCCEEDED)
    await trail.look()
    await trail.look()
    assert trail.have_ended([job_id])
    told = [next(word for word in line.split() if word in {"survived", *Status}) for line in map(after_arrow, said)]
    assert told == ["pending", "running", "pending", "running", "survived", "succeeded", "survived"]
    name = f"nap …{str(job_id)[-8:]}"
    assert f"survived a kill: {name}, attempt 2 began " in said[4]
    assert said[4].endswith(f" s after process {dead} fell silent")
    assert said[6].endswith(f"survived a kill: {name} succeeded in attempt 2")


@pytest.mark.parametrize(
    ("kind", "reason", "told"),
    [
        ("lost", "rescued", "survived a kill: nap …{}, attempt 2 began"),
        ("lost", "lost", "survived a stop: nap …{}, attempt 2 began"),
        ("ValueError", "ValueError", ""),
    ],
)
async def test_who_signed_off_was_stopped_and_an_error_is_no_death(
    place: Place, kind: str, reason: str, told: str
) -> None:
    said: list[str] = []
    trail = await trail_of(place, said.append)
    job_id = await running(place)
    back = """UPDATE jobtrail.jobs SET status = 'pending', node_id = NULL, lease_until = NULL, started_at = NULL,
        seq = seq + 1, moved_by = 'node', move_reason = $2, error = jsonb_build_object('type', $3::text, 'message', '')
        WHERE id = $1"""
    await place.psql.execute(back, job_id, reason, kind)
    await moved(place, job_id, Status.RUNNING)
    await trail.look()
    remarks = [line[14:] for line in said if "→" not in line]
    assert remarks == ([told.format(str(job_id)[-8:])] if told else [])
    assert len(said) - len(remarks) == 4


async def test_an_attempt_after_the_next_or_by_hand_is_no_survival(place: Place, dead: int) -> None:
    said: list[str] = []
    trail = await trail_of(place, said.append)
    twice, once = await running(place, dead), await running(place, dead)
    await place.psql.execute("UPDATE jobtrail.jobs SET max_attempts = 1 WHERE id = $1", once)
    await rescue(place.database, node=await judge(place), by="node")
    for status in (Status.RUNNING, Status.PENDING, Status.RUNNING, Status.SUCCEEDED):
        await moved(place, twice, status)
    for status in (Status.PENDING, Status.RUNNING):
        await moved(place, once, status)
    await trail.look()
    (survived,) = [line for line in said if "survived" in line]
    assert f"nap …{str(twice)[-8:]}, attempt 2 began" in survived


async def test_what_was_before_is_not_told(place: Place) -> None:
    await born(place)
    said: list[str] = []
    trail = await trail_of(place, said.append)
    await born(place, "later")
    await trail.look()
    assert ["later" in line for line in said] == [True]
