"""Long jobs whose node is killed and drained again and again: they go on, and only kills spend an attempt."""

import signal
from collections.abc import Callable
from itertools import groupby
from pathlib import Path
from typing import Any

from support.hosting import nobody_is_in, submitted
from support.resuming import KINDS, noted
from support.served import CHECKOUT, Working
from support.until import until
from support.world import Place

WORK = {
    **CHECKOUT,
    "JOBTRAIL_TASKS": "support.resuming",
    "JOBTRAIL_LEASE": "2s",
    "JOBTRAIL_POLL_EVERY": "50ms",
    "JOBTRAIL_PROCESSES": "1",
}
ROUNDS = 10
KILLS = ROUNDS // 2
STEPS = 2_000

JOBS = """SELECT id::text, status, result::text, attempt, max_attempts, given_back FROM jobtrail.jobs"""
ENDS = """SELECT reason, count(*) FROM jobtrail.transitions WHERE job_id::text = $1 AND from_status = 'running'
    GROUP BY reason"""


async def test_no_step_before_the_last_checkpoint_is_repeated(folder: Path, place: Place) -> None:
    gate, paths = folder / "gate", {task: folder / f"{task}.steps" for task in KINDS}
    ids = {
        await submitted(place, task, KILLS + 1, path=path, steps=STEPS, gate=gate): path for task, path in paths.items()
    }
    for number in range(ROUNDS):
        async with Working.start(folder, place.url.libpq, **WORK) as node:
            await until(_all_stored(paths, number + 1))
            if number % 2:
                node.process.kill()
            else:
                node.signal(signal.SIGTERM)
            code, _ = await node.ended()
            assert (code == 0) is (number % 2 == 0)
        await until(lambda: nobody_is_in(folder))
    gate.touch()
    async with Working.start(folder, place.url.libpq, **WORK):
        await until(_all_over(place), within=300)
    for job in await place.rows(JOBS):
        steps = noted(ids[job["id"]])
        assert job["status"] == "succeeded"
        assert (job["attempt"], job["max_attempts"], job["given_back"]) == (ROUNDS + 1, ROUNDS + 1, ROUNDS - KILLS)
        ends = {row["reason"]: row["count"] for row in await place.rows(ENDS, job["id"])}
        assert ends == {"drained": ROUNDS - KILLS, "rescued": KILLS, "succeeded": 1}
        _no_stored_step_is_repeated(steps)
        assert {step for _, what, step in steps if what == "did"} >= set(range(int(job["result"])))


def _no_stored_step_is_repeated(steps: list[tuple[int, str, int]]) -> None:
    """An attempt does each step once; the next one begins at the last checkpoint, or one behind it whose answer
    was cut off.
    """
    place = 0
    for _, lines in groupby(steps, key=lambda line: line[0]):
        attempt = list(lines)
        done = [step for _, what, step in attempt if what == "did"]
        if done:
            assert done[0] in (place, place + 1), (place, done[0])
            assert done == list(range(done[0], done[0] + len(done)))
        place = max((step for _, what, step in attempt if what == "stored"), default=place)


def _all_stored(paths: dict[str, Path], attempt: int) -> Callable[[], Any]:
    async def stored() -> bool:
        return all((attempt, "stored") in {line[:2] for line in noted(path)} for path in paths.values())

    return stored


def _all_over(place: Place) -> Callable[[], Any]:
    async def over() -> bool:
        return bool(await place.value("SELECT bool_and(finished_at IS NOT NULL) FROM jobtrail.jobs"))

    return over
