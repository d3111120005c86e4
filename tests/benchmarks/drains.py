"""A backlog of pending jobs, from the first claim to the last recorded end."""

import json
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial

from benchmarks.bare import GROUP
from benchmarks.lab import HAS_PGQUEUER, Database, Figure, Lab

FROM_CLAIM_TO_END = """
SELECT count(*) FILTER (WHERE to_status = 'succeeded') / extract(epoch FROM
       max(at) FILTER (WHERE to_status = 'succeeded') - min(at) FILTER (WHERE to_status = 'running'))::float8,
       count(*) FILTER (WHERE to_status = 'succeeded')
  FROM jobtrail.transitions WHERE at > %s
"""
SLOTS = 200


def drain(lab: Lab) -> Iterator[Figure]:
    """By `jobtrail work`."""
    with ExitStack() as stack:
        database = stack.enter_context(lab.database("drain"))
        ways = {f"{slots} slots": partial(worked, lab, database, slots) for slots in lab.size.slots}
        ways |= {f"{nodes} nodes": partial(worked, lab, database, SLOTS, nodes) for nodes in lab.size.nodes}
        ways["stale"] = partial(worked, lab, database, SLOTS, analyzed=False)
        ways["bare"] = partial(by_peer, lab, database, "bare")
        if HAS_PGQUEUER:
            theirs = stack.enter_context(lab.database("drain_pgqueuer", migrated=False))
            ways["pgqueuer"] = partial(by_peer, lab, theirs, "queuer")
        found = lab.in_turn(ways)
    bare = f"our claim and finish in a bare loop, groups of {GROUP}"
    peers = {"pgqueuer": "PgQueuer", "bare": bare}
    for name in (each for each in found if each not in peers):
        text = f"{SLOTS} slots, statistics of an empty table" if name == "stale" else name
        for peer in (each for each in peers if each in found):
            beside = (peers[peer], found[peer])
            yield Figure(f"drain, {text}", "/s", found[name]["rate"], beside[0], beside[1]["rate"])
            if name == f"{SLOTS} slots":
                for part, what in (("python", "Python"), ("postgres", "PostgreSQL")):
                    yield Figure(f"{what} per drained job", "µs", found[name][part], beside[0], beside[1][part])
    yield Figure("WAL per drained job", "bytes", found[f"{SLOTS} slots"]["wal"])


def worked(
    lab: Lab, database: Database, slots: int = SLOTS, nodes: int = 1, *, analyzed: bool = True, kept: bool = False,
    pending: int = 0,
) -> dict[str, float]:  # fmt: skip
    """New processes each time; what they need to start is not counted.

    `analyzed`: as autovacuum does within a minute; otherwise PostgreSQL believes in an empty table. `kept` rows stay.
    With `pending`, so many wait when it begins, and it is looked at for some seconds.
    """
    if not kept:
        database.empty()
    with ExitStack() as stack:
        words = ("work", "--slots", str(slots))
        processes = [stack.enter_context(lab.jobtrail(*words, url=database.url))[0] for _ in range(nodes)]
        with prepared(lab, database, analyzed=analyzed, pending=pending):
            began, before = database.now(), lab.spent(*processes, database=database)
            database.resume()
            if pending:
                time.sleep(lab.size.seconds)
            else:
                database.settle()
                assert database.succeeded(began) == lab.size.backlog
            after = lab.spent(*processes, database=database)
            rate, done = database.sql.execute(FROM_CLAIM_TO_END, [began]).fetchone() or (0, 0)
    return {"rate": rate or 0.0, **after.per_job(before, done)}


def by_peer(lab: Lab, database: Database, peer: str) -> dict[str, float]:
    with ExitStack() as stack:
        if peer == "bare":
            database.empty()
            stack.enter_context(prepared(lab, database))
            database.resume()
        process = stack.enter_context(lab.started(f"benchmarks.{peer}", str(lab.size.backlog), url=database.url))
        assert lab.said(process) == "begins"
        before = lab.spent(database=database)
        assert process.stdin
        process.stdin.write("go\n")
        process.stdin.flush()
        seconds, python = json.loads(lab.said(process))
        spent = lab.spent(database=database).per_job(before, lab.size.backlog)
    return {**spent, "rate": lab.size.backlog / seconds, "python": python / lab.size.backlog * 1e6}


@contextmanager
def prepared(lab: Lab, database: Database, *, analyzed: bool = True, pending: int = 0) -> Iterator[None]:
    """The backlog, which nothing claims until the queue is resumed; `pending` is how many there are together."""
    if not analyzed:
        database.sql.execute("ANALYZE jobtrail.jobs, jobtrail.transitions")
    database.pause()
    waiting = database.value("SELECT count(*) FROM jobtrail.jobs WHERE status = 'pending'") if pending else 0
    database.prepare(max(pending - waiting, 0) if pending else lab.size.backlog)
    if analyzed:
        database.sql.execute("ANALYZE jobtrail.jobs, jobtrail.transitions")
    database.sql.execute("CHECKPOINT")
    yield
    database.resume()
