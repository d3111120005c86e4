"""Each breaks one thing that the promise stands on."""

from pathlib import Path
from typing import Final, NamedTuple


class Change(NamedTuple):
    """`old` stands in the file, and becomes `new`."""

    file: str
    old: str
    new: str


class Mutant(NamedTuple):
    """`guard`: the tests of which one must go red."""

    name: str
    guard: str
    changes: tuple[Change, ...]

    def applied(self, top: Path) -> dict[str, str]:
        """The files below `top` that it changes, and their texts then."""
        texts: dict[str, str] = {}
        for file, old, new in self.changes:
            text = texts.get(file) or (top / file).read_text()
            assert old in text, f"{self.name}: {file} has no {old!r}"
            texts[file] = text.replace(old, new)
        return texts


FENCE: Final = "service/jobtrail/jobs/fence.py"
RESCUE: Final = "service/jobtrail/jobs/rescue.py"
FINISH: Final = "service/jobtrail/jobs/finish.py"
OFFER: Final = "service/jobtrail/jobs/finish.py"
LIMITED: Final = "service/jobtrail/db/engine.py"
SUBMIT: Final = "service/jobtrail/jobs/submit.py"
LEASES: Final = "service/jobtrail/worker/leases.py"
WORKER: Final = "service/jobtrail/worker/worker.py"
GROUP: Final = "service/jobtrail/db/group_commit.py"
SESSION: Final = "service/jobtrail/jobs/session.py"
EXPIRY: Final = "service/jobtrail/jobs/purge.py"
MIGRATION: Final = "migrations/versions/2026-11-22-0300_jobs.py"

LATE = """        loop = asyncio.get_running_loop()
        loop.call_later(0.05, lambda: asyncio.ensure_future(inserts(services).put(new)))
        return Inserted(datetime.now(UTC), datetime.now(UTC))
"""

THREAD = """name="jobtrail-leases", daemon=True)
        self._thread.start()
"""

FIND = """        silent = "SELECT id FROM jobtrail.jobs WHERE status = 'running' AND lease_until < now()"
        found = [row.id for row in await connection.execute(text(silent))]
        rows = (await connection.execute(_RESCUE, {"found": found, """

ENDED_BEFORE = """    await session.own.commit()
    await session.own.begin()
    return await finish_within"""

MUTANTS: Final = (
    Mutant(
        "the fence's predicate removed",
        "tests/worker/test_leases.py",
        (Change(FENCE, "{row}attempt = u.attempt AND {row}node_id = :node", "CAST(:node AS uuid) IS NOT NULL"),),
    ),
    Mutant(
        "rescue split in two statements",
        "tests/worker/test_judging.py",
        (
            Change(
                RESCUE,
                "         WHERE status = 'running' AND lease_until < statement",
                "         WHERE lease_until < statement",
            ),
            Change(
                RESCUE,
                "         WHERE lease_until < statement_timestamp()\n",
                "         WHERE id = ANY(CAST(:found AS uuid[]))\n",
            ),
            Change(RESCUE, " FOR UPDATE SKIP LOCKED", ""),
            Change(RESCUE, "   AND j.lease_until < statement_timestamp()\n", ""),
            Change(RESCUE, "        rows = (await connection.execute(_RESCUE, {", FIND),
        ),
    ),
    Mutant(
        "the guard trigger dropped",
        "tests/jobs/test_guard.py",
        (Change(MIGRATION, "WHEN ((OLD.id, OLD.status", "WHEN (false AND (OLD.id, OLD.status"),),
    ),
    Mutant(
        "the commit moved after the answer",
        "tests/jobs/test_submit.py",
        (
            Change(SUBMIT, "        return await inserts(services).put(new)\n", LATE),
            Change(SUBMIT, "import hashlib\n", "import asyncio\nimport hashlib\n"),
            Change(
                SUBMIT, "from datetime import datetime, timedelta\n", "from datetime import UTC, datetime, timedelta\n"
            ),
        ),
    ),
    Mutant(
        "renewal on the main loop",
        "tests/worker/test_watchdog.py",
        (
            Change(
                LEASES,
                THREAD,
                (
                    "daemon=True)\n"
                    "        self._thread, self._task = threading.main_thread(), asyncio.create_task(self._run())\n"
                ),
            ),
            Change(LEASES, "await asyncio.to_thread(thread.join, 5.0)", "await asyncio.wait({self._task}, timeout=5)"),
        ),
    ),
    Mutant(
        "a plain read instead of FOR UPDATE after an unknown commit",
        "tests/worker/test_leases.py",
        (Change(FINISH, "WHERE id = :id FOR UPDATE", "WHERE id = :id"),),
    ),
    Mutant(
        "rescue without a judge",
        "tests/worker/test_judging.py",
        (
            Change(RESCUE, "           AND EXISTS (", "           AND (CAST(:node AS uuid) IS NOT NULL OR EXISTS ("),
            Change(RESCUE, ".node_id), judge.lease))\n", ".node_id), judge.lease)))\n"),
        ),
    ),
    Mutant(
        "a group that is not repeated after a lost connection",
        "tests/db/test_group.py",
        (Change(GROUP, "return time.monotonic() - began < self._patience", "return False"),),
    ),
    Mutant(
        "a claim whose answer was lost is not adopted",
        "tests/worker/test_leases.py",
        (Change(WORKER, "        if orphans:\n", "        if orphans and False:\n"),),
    ),
    Mutant(
        "the effects of a job session committed before its end",
        "tests/jobs/test_job_session.py",
        (Change(SESSION, "    return await finish_within", ENDED_BEFORE),),
    ),
    Mutant(
        "a purge that does not look at the expiry",
        "tests/jobs/test_purge.py",
        (
            Change(
                EXPIRY, "WHERE expires_at <= statement_timestamp()\n", "WHERE finished_at <= statement_timestamp()\n"
            ),
            Change(EXPIRY, "   AND expires_at <= statement_timestamp()\n", ""),
            Change(
                MIGRATION, "WHEN (OLD.expires_at IS NULL OR OLD.expires_at > clock", "WHEN (OLD.finished_at > clock"
            ),
        ),
    ),
    Mutant(
        "an end dropped at an SQLSTATE that is on no list",
        "tests/embed/test_kept_ends.py",
        (
            Change(
                OFFER,
                "            except Exception as error:  # as above\n",
                "            except UnavailableError as error:\n",
            ),
        ),
    ),
    Mutant(
        "a refused password told as a mistake of the service",
        "tests/embed/test_refused.py",
        (
            Change(LIMITED, "if not limit.is_connected:", "if not limit.is_connected and fault_of(error) in PASSING:"),
            Change(
                LIMITED, "import FAILURES, NotConnectedError", "import FAILURES, PASSING, NotConnectedError, fault_of"
            ),
        ),
    ),
)
