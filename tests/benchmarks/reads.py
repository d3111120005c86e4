"""What is asked of a table that has rows: one job, pages of the list, audits. And jobs in batches, and their purge."""

import json
import math
import time
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial

from benchmarks.lab import Database, Figure, Lab, asked
from benchmarks.submits import answers, measured

ACCEPTS_ONLY = {"JOBTRAIL_SLOTS": "0", "JOBTRAIL_PURGE_EVERY": "1d"}
FILTERS = ("", "status=failed", "status=pending", "task=noop", "task=other", "queue=default", "tag=rare", "tag=other")
COPY = "COPY jobtrail.jobs (id, task, queue, args, trace_id) FROM STDIN"
BATCH = 1000


def job(lab: Lab) -> Iterator[Figure]:
    """GET of one job, by its id."""
    with lab.database("job") as database, lab.app("apps:nothing") as (other, nothing):
        database.fill(100)
        job_id = database.value("SELECT id FROM jobtrail.jobs LIMIT 1")
        with lab.jobtrail("serve", url=database.url, **ACCEPTS_ONLY) as (serve, told):
            get = partial(answers, lab, method="GET", body="")
            found = measured(
                lab,
                {
                    "ours": partial(get, f"{told['url']}/v1/jobs/{job_id}", serve),
                    "constant": partial(get, f"{nothing}/row/{job_id}", other),
                },
            )
    for key, unit, what in (("rate", "/s", "a job read"), ("python", "µs", "Python per job read")):
        beside = "FastAPI returning a constant of that shape"
        yield Figure(what, unit, found["ours"][key], beside, found["constant"][key])


def batch(lab: Lab) -> Iterator[Figure]:
    """Jobs submitted by the thousand."""
    body = json.dumps({"jobs": [{"task": "noop", "args": {"a": 1}}] * BATCH})
    with lab.database("batch") as database, lab.jobtrail("serve", url=database.url, **ACCEPTS_ONLY) as (serve, told):

        def submitted() -> dict[str, float]:
            database.empty()
            load = answers(lab, f"{told['url']}/v1/jobs/batch", serve, body=body, connections=1)
            return {"rate": load["rate"] * BATCH, "python": load["python"] / BATCH}

        found = lab.in_turn({"ours": submitted, "copy": partial(copied, lab, database)})
    beside = "the same rows by COPY, with the same triggers"
    yield Figure("rows submitted in batches of 1,000", "/s", found["ours"]["rate"], beside, found["copy"]["rate"])
    yield Figure("Python per row of a batch", "µs", found["ours"]["python"])


def copied(lab: Lab, database: Database) -> dict[str, float]:
    database.empty()
    ids = [row[0] for row in database.sql.execute(f"SELECT uuidv7() FROM generate_series(1, {BATCH * 100})")]
    began, count = time.perf_counter(), 0
    while time.perf_counter() < began + lab.size.seconds and count < len(ids):
        with database.sql.cursor() as cursor, cursor.copy(COPY) as copy:
            for each in ids[count : count + BATCH]:
                copy.write_row((each, "noop", "default", '{"a": 1}', each.hex))
        count += BATCH
    return {"rate": count / (time.perf_counter() - began)}


def lists(lab: Lab) -> Iterator[Figure]:
    """Milliseconds in the database for the first page of the list, and for each question of an audit."""
    count = lab.size.finished
    with lab.database("lists", finished=count) as database:
        database.sql.execute("CREATE EXTENSION pg_stat_statements")
        one = database.value("SELECT id FROM jobtrail.jobs LIMIT 1")
        parameters = {"history_of_job": f"?id={one}", "by_trace": f"?trace_id={one.hex}"}
        with lab.jobtrail("serve", url=database.url, **ACCEPTS_ONLY) as (_, told):
            names = [each["name"] for each in asked("GET", f"{told['url']}/v1/audit")["items"]]
            paths = {f"list: {each or 'no filter'}": f"/v1/jobs?{each}" for each in FILTERS}
            paths |= {f"audit: {each}": f"/v1/audit/{each}{parameters.get(each, '')}" for each in names}
            ways = {name: partial(statements, database, told["url"] + path) for name, path in paths.items()}
            found = lab.in_turn(ways)
    for name, figures in found.items():
        yield Figure(f"{name}, of {count:,} jobs", "ms", figures["ms"])


def statements(database: Database, url: str) -> dict[str, float]:
    """The longest statement of the answer, which the service may end; those of the node itself are far below it."""
    database.sql.execute("SELECT pg_stat_statements_reset()")
    try:
        asked("GET", url)
    except AssertionError:
        return {"ms": math.inf}
    longest = """
        SELECT coalesce(max(max_exec_time), 0) FROM pg_stat_statements
         WHERE dbid = (SELECT oid FROM pg_database WHERE datname = current_database()) AND query NOT LIKE '%pg_stat%'
    """
    return {"ms": float(database.value(longest))}


def purge(lab: Lab) -> Iterator[Figure]:
    """What has expired is removed; submits go on meanwhile."""
    count = lab.size.backlog * 5
    begun = "SELECT EXISTS (SELECT FROM jobtrail.transitions WHERE to_status = 'purged')"
    spans = """
        SELECT count(*) / extract(epoch FROM max(at) - min(at))::float8 FROM jobtrail.transitions
         WHERE to_status = 'purged'
    """
    with ExitStack() as stack:
        database = stack.enter_context(lab.database("purge"))
        serve, told = stack.enter_context(lab.jobtrail("serve", url=database.url, **ACCEPTS_ONLY))

        def submitted(*, purging: bool) -> dict[str, float]:
            database.empty()
            database.fill(count, kept="0 days")
            with ExitStack() as other:
                if purging:
                    purge = other.enter_context(lab.started("jobtrail", "purge", url=database.url))
                    while not database.value(begun):
                        assert purge.poll() in (None, 0)
                        time.sleep(0.01)
                load = answers(lab, f"{told['url']}/v1/jobs", serve)
                if purging:
                    purge.wait()
                    load["purged"] = database.value(spans) or 0.0
            return load

        found = lab.in_turn({"purging": partial(submitted, purging=True), "quiet": partial(submitted, purging=False)})
    yield Figure("rows purged, while jobs are submitted", "/s", found["purging"]["purged"])
    for key, unit in (("p99", "ms"), ("rate", "/s")):
        what = f"{'p99 of the 202' if key == 'p99' else 'accepted'} during a purge"
        yield Figure(what, unit, found["purging"][key], "the same without", found["quiet"][key])
