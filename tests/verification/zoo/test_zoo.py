"""Tasks that do what no task should, all in one service: each ends as it has to, and the service does not mind."""

import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import pytest

from jobtrail.db.embedded import EmbeddedPostgres
from jobtrail.testing import scratch_database
from support.served import CHECKOUT, Served
from support.until import until

SETTINGS: Final = {
    **CHECKOUT, "JOBTRAIL_TASKS": "zoo.animals,zoo.alone", "JOBTRAIL_CANCEL_GRACE": "0.3s",
    "JOBTRAIL_GRACE": "1s", "JOBTRAIL_PROCESSES": "2",
}  # fmt: skip

KINDS: Final = ("on_loop", "in_thread", "in_process")


class End(NamedTuple):
    """The type and the beginning of the message of a job's error, or its result."""

    type: str | None = None
    message: str = ""
    result: Any = None


EVERYWHERE: Final[dict[str, End]] = {
    "exit": End("SystemExit", "3"),
    "interrupt": End("KeyboardInterrupt"),
    "generator exit": End("GeneratorExit"),
    "cancelled": End("CancelledError"),
    "stop": End("StopIteration", "5"),
    "stop async": End("StopAsyncIteration", "5"),
    "base": End("WildError", "wild"),
    "group": End("BaseExceptionGroup", "many (2 sub-exceptions)"),
    "deep": End("RecursionError", "maximum recursion depth exceeded"),
    "no memory": End("MemoryError"),
    "too much memory": End("MemoryError"),
    "cycle of causes": End("ValueError", "one"),
    "long chain": End("ValueError", "2999"),
    "bad str": End("BadStrError", "<the message cannot be shown: __str__ raised KeyboardInterrupt>"),
    "no text": End("NoTextError", "<the message cannot be shown: __str__ raised TypeError>"),
    "bad repr": End("BadReprError"),
    "bad reduce": End("BadReduceError"),
    "bad class": End("BadClassError", "<the error cannot be shown: RuntimeError>"),
    "bad look": End("BadLookError", "<the error cannot be shown: WildError>"),
    "bad notes": End("BadNotesError"),
    "huge message": End("ValueError", "xxxx"),
    "huge name": End("E" * 50),
    "name with a surrogate": End("UnicodeEncodeError"),
    "stdin": End("EOFError"),
    "generator": End(result=[0, 1, 2]),
    "endless generator": End("result-too-large"),
    "coroutine": End("TypeError", "the task returned a coroutine"),
    "class": End("result-not-json"),
    "cyclic": End("result-not-json"),
    "laughs": End("result-too-large"),
    "deep result": End("result-not-json"),
    "bytes": End("result-not-json"),
    "text of 100 MB": End("result-too-large"),
    "list of 100 MB": End("result-too-large"),
    "objects of 100 MB": End("result-too-large"),
    "program left": End(result=1),
    "fork that returns": End(result=1),
}
"""In each kind of place."""

WIDELY: Final = {
    each: End(result=1) for each in ("json patched", "no garbage", "elsewhere", "no environment", "shallow")
}
"""What changes the process for all, so it comes last."""

DIES: Final = End("process-died")
APART: Final[dict[tuple[str, str], End]] = {
    ("on_loop", "stop"): End("RuntimeError", "coroutine raised StopIteration"),
    ("on_loop", "coroutine"): End("result-not-json"),
    ("in_thread", "never"): End("timeout"),
    ("in_process", "never"): End("timeout"),
    ("in_process", "segfault"): DIES,
    ("in_process", "sigsegv"): DIES,
    ("in_process", "code"): DIES,
    ("in_process", "killed"): DIES,
    ("in_process", "no files"): DIES,
    ("in_process", "no 0 to 2"): End(result=1),
    ("in_process", "deaf to signals"): End(result=1),
    ("in_process", "threads left"): End(result=1),
    ("alone", "never"): End("timeout"),
    ("alone", "deaf"): End("timeout"),
    ("alone", "blocks"): End(result="awake"),
    ("alone", "closes the loop"): End("RuntimeError", "Cannot close a running event loop"),
    ("alone", "complains"): End("KeyboardInterrupt"),
    ("alone", "cancels itself"): End("CancelledError"),
    ("alone", "cancels itself and goes on"): End(result="went on"),
    ("alone", "raises in a callback"): End(result=1),
}
TALKS: Final = {
    (kind, how): End("ValueError" if how == "number of 5000 digits" else None)
    for kind in ("talks", "talks_in_process")
    for how in ("huge line", "many lines", "huge note", "bad note", "much progress", "number of 5000 digits")
}

ENDS: Final = {(kind, how): end for kind in KINDS for how, end in EVERYWHERE.items()} | APART | TALKS
LAST: Final = {(kind, how): end for kind in KINDS for how, end in WIDELY.items()}
SLOW: Final = {("in_process", how) for how in ("sigsegv", "code", "killed", "no 0 to 2", "threads left")}


def some(ends: dict[tuple[str, str], End]) -> dict[tuple[str, str], End]:
    """Every third of what there is in each kind of place, and of the rest what is quick."""
    each = [KINDS[n % 3] for n in range(len(ends))]
    hows = {how: each[n] for n, how in enumerate(dict.fromkeys(how for _, how in ends))}
    return {
        (kind, how): end
        for (kind, how), end in ends.items()
        if "100 MB" not in how and (kind, how) not in SLOW and ((kind, how) in APART or kind == hows[how])
    }


@pytest.mark.parametrize(
    ("ends", "last"),
    [(some(ENDS), some(LAST)), pytest.param(ENDS, LAST, marks=pytest.mark.verify)],
    ids=["some", "all"],
)
async def test_each_ends_as_it_must_and_the_service_goes_on(
    postgres: EmbeddedPostgres, tmp_path: Path, ends: dict[tuple[str, str], End], last: dict[tuple[str, str], End]
) -> None:
    with scratch_database(postgres.url) as database:
        async with Served.start(tmp_path, database.url, **SETTINGS) as served:
            found = {**await _run(served, list(ends)), **await _run(served, list(last))}
            (await served.client.get("/health/ready")).raise_for_status()
            for each in ("fresh_on_loop", "fresh_in_thread", "fresh_in_process"):
                await served.reached(await served.submit(each), "succeeded")
            jobs = {which: await served.job(job_id) for which, job_id in found.items()}
            served.signal(signal.SIGTERM)
            code, _ = await served.ended()
    assert code == 0
    assert "node stopped" in (tmp_path / "serve.log").read_text()
    assert {which: job for which, job in jobs.items() if not _is(job, {**ends, **last}[which])} == {}


def _is(job: dict[str, Any], end: End) -> bool:
    error = job["error"] or {"type": None, "message": ""}
    return (
        (job["status"], job["result"], job["attempt"]) == ("failed" if end.type else "succeeded", end.result, 1)
        and (error["type"] or "")[:50] == (end.type or "")
        and error["message"].startswith(end.message)
    )


async def _run(served: Served, which: Sequence[tuple[str, str]]) -> dict[tuple[str, str], str]:
    """The ids of their jobs, when the last of them has ended."""
    wanted = [
        {"task": task, "args": {"how": how}, "timeout": 0.5 if how in {"never", "deaf"} else None}
        for task, how in which
    ]
    made = (await served.client.post("/v1/jobs/batch", json={"jobs": wanted})).raise_for_status().json()["items"]

    async def all_have_ended() -> bool:
        open_ones = await served.client.get("/v1/jobs", params={"status": ["pending", "running"], "limit": 1})
        return not open_ones.raise_for_status().json()["items"]

    await until(all_have_ended, within=200, every=0.1)
    return {each: job["id"] for each, job in zip(which, made, strict=True)}
