"""A backlog of pending jobs, from the first claim to the last recorded end."""

import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial

from benchmarks.bare import GROUP
from benchmarks.lab import HAS_PGQUEUER, Database, Figure, Lab

FROM_CLAIM_TO_END = """
SELECT count(*) FILTER (WHERE to_status = 'succeeded') / extract(epoch FROM
       max(at) FILTER (WHERE to_status = 'succeeded') - min(at) FILTER (WHERE to_status = 'running'))::float8
  FROM jobtrail.transitions WHERE at > %s
"""
SLOTS = (200, 1000)
NODES = (2, 4)


def drain(lab: Lab) -> Iterator[Figure]:
    """By `jobtrail work`."""
    with ExitStack() as stack:
        database = stack.enter_context(lab.database("drain"))
        ways = {f"{slots} slots": partial(worked, lab, database, slots) for slots in SLOTS}
        ways |= {f"{nodes} nodes": partial(worked, lab, database, SLOTS[0], nodes) for nodes in NODES}
        ways["stale"] = partial(worked, lab, database, SLOTS[0], analyzed=False)
        ways["bare"] = partial(by_peer, lab, database, "bare")
        if HAS_PGQUEUER:
            theirs = stack.enter_context(lab.database("drain_pgqueuer", migrated=False))
            ways["pgqueuer"] = partial(by_peer, lab, theirs, "queuer")
        found = lab.in_turn(ways)
    bare = f"our claim and finish in a bare loop, groups of {GROUP}"
    peers = {"pgqueuer": "PgQueuer", "bare": bare}
    for name in (each for each in found if each not in peers):
        text = "200 slots, statistics of an empty table" if name == "stale" else name
        for peer in (each for each in peers if each in found):
            beside = (peers[peer], found[peer])
            yield Figure(f"drain, {text}", "/s", found[name]["rate"], beside[0], beside[1]["rate"])
            if name == "200 slots":
                for part, what in (("python", "Python"), ("postgres", "PostgreSQL")):
                    yield Figure(f"{what} per drained job", "µs", found[name][part], beside[0], beside[1][part])
    yield Figure("WAL per drained job", "bytes", found["200 slots"]["wal"])


def worked(lab: Lab, database: Database, slots: int, nodes: int = 1, *, analyzed: bool = True) -> dict[str, float]:
    """New processes each time; what they need to start is not counted.

    `analyzed`: as autovacuum does within a minute; otherwise PostgreSQL believes in an empty table.
    """
    database.empty()
    with ExitStack() as stack:
        words = ("work", "--slots", str(slots))
        processes = [stack.enter_context(lab.jobtrail(*words, url=database.url))[0] for _ in range(nodes)]
        with prepared(lab, database, analyzed=analyzed):
            began, before = database.value("SELECT clock_timestamp()"), lab.spent(*processes, database=database)
            database.resume()
            database.settle()
        spent = lab.spent(*processes, database=database).per_job(before, lab.size.backlog)
    return {"rate": database.value(FROM_CLAIM_TO_END, began), **spent}


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
def prepared(lab: Lab, database: Database, *, analyzed: bool = True) -> Iterator[None]:
    """The backlog, which nothing claims until the queue is resumed."""
    if not analyzed:
        database.sql.execute("ANALYZE jobtrail.jobs, jobtrail.transitions")
    database.pause()
    database.prepare(lab.size.backlog)
    if analyzed:
        database.sql.execute("ANALYZE jobtrail.jobs, jobtrail.transitions")
    database.sql.execute("CHECKPOINT")
    yield
    database.resume()
