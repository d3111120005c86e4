"""Whole jobs: accepted over HTTP, run, and recorded with their history within the window of the load."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from subprocess import Popen
from typing import Any

from benchmarks.lab import HAS_PGQUEUER, Database, Figure, Lab


def http(lab: Lab) -> Iterator[Figure]:
    """By `jobtrail serve` with default settings."""
    with ExitStack() as stack:
        database = stack.enter_context(lab.database("http"))
        serve, told = stack.enter_context(lab.jobtrail("serve", url=database.url))
        other, nothing = stack.enter_context(lab.app("apps:nothing"))
        ways = {
            "whole": partial(whole_jobs, lab, database, f"{told['url']}/v1/jobs", serve),
            "short": partial(answers, lab, f"{nothing}/short", other),
            "full": partial(answers, lab, f"{nothing}/full", other),
        }
        if HAS_PGQUEUER:
            theirs = stack.enter_context(lab.database("http_pgqueuer", migrated=False))
            queuer, at = stack.enter_context(lab.app("queuer:app", theirs.url))
            ways["pgqueuer"] = partial(answers, lab, f"{at}/jobs", queuer)
        found = measured(lab, ways)
    ours = found["whole"]
    beside = {"short": "FastAPI doing nothing", "full": "the same with all the fields of our response",
              "pgqueuer": "PgQueuer, accepted only"}  # fmt: skip
    for name, text in beside.items():
        if name in found:
            yield Figure("whole jobs over HTTP", "/s", ours["whole"], text, found[name]["rate"])
    yield Figure("accepted over HTTP", "/s", ours["rate"], "FastAPI doing nothing", found["short"]["rate"])
    yield Figure("share of the accepted that ended within the window", "", ours["share"])
    for cut in ("p50", "p99"):
        yield Figure(f"{cut} of the 202", "ms", ours[cut], "FastAPI doing nothing", found["short"][cut])
    yield Figure("Python per whole job", "µs", ours["python"], "FastAPI doing nothing", found["short"]["python"])
    if HAS_PGQUEUER:
        yield Figure("Python per whole job", "µs", ours["python"], beside["pgqueuer"], found["pgqueuer"]["python"])
        yield Figure(
            "PostgreSQL per whole job", "µs", ours["postgres"], beside["pgqueuer"], found["pgqueuer"]["postgres"]
        )
    else:
        yield Figure("PostgreSQL per whole job", "µs", ours["postgres"])
    yield Figure("WAL per whole job", "bytes", ours["wal"])
    yield Figure("the client per request (it shares the CPUs)", "µs", ours["client"])


def endpoint(lab: Lab) -> Iterator[Figure]:
    """By an endpoint of a host app, as it is and with `gc.freeze()` at its start."""
    ways: dict[str, Callable[..., dict[str, float]]] = {}
    with ExitStack() as stack:
        for name in ("host", "frozen"):
            database = stack.enter_context(lab.database(name))
            process, at = stack.enter_context(lab.app(f"apps:{name}", database.url))
            ways[f"{name} jobs"] = partial(whole_jobs, lab, database, f"{at}/jobs", process)
            ways[f"{name} background"] = partial(answers, lab, f"{at}/background", process)
        found = measured(lab, ways)
    for name, text in (("host", ""), ("frozen", ", `gc.freeze()`")):
        ours, theirs = found[f"{name} jobs"], found[f"{name} background"]
        beside = f"the same with BackgroundTasks{text}"
        yield Figure(
            f"whole jobs by an endpoint with `jobs.add_task`{text}", "/s", ours["whole"], beside, theirs["rate"]
        )
        yield Figure("share of these that ended within the window", "", ours["share"])
        yield Figure("p99 of this endpoint", "ms", ours["p99"], beside, theirs["p99"])
        yield Figure("Python per job of this endpoint", "µs", ours["python"], beside, theirs["python"])
        yield Figure("PostgreSQL per job of this endpoint", "µs", ours["postgres"])


def measured(lab: Lab, ways: dict[str, Callable[..., dict[str, float]]]) -> dict[str, dict[str, list[float]]]:
    for way in ways.values():  # a server that has just started is another one
        way(seconds=min(1.0, lab.size.seconds))
    return lab.in_turn(ways)


def whole_jobs(lab: Lab, database: Database, url: str, serve: Popen[str], seconds: float = 0) -> dict[str, float]:
    """What is recorded after the window is not counted, but what it costs is."""
    database.settle()
    began, before = database.now(), lab.spent(serve, database=database)
    load = lab.load(url, seconds=seconds, then=partial(database.succeeded, began))
    database.settle()
    after, ended = lab.spent(serve, database=database), database.succeeded(began)
    assert ended >= load["count"], f"of {load['count']} accepted jobs {ended} have succeeded"
    whole = {"whole": load["then"] / load["seconds"], "share": load["then"] / load["count"]}
    return {**load, **after.per_job(before, ended), **whole}


def answers(lab: Lab, url: str, server: Popen[str], **request: Any) -> dict[str, float]:
    before = lab.spent(server)
    load = lab.load(url, **request)
    return {**load, **lab.spent(server).per_job(before, load["count"])}
