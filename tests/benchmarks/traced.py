"""How many of our functions a job passes, in how many files, and how many asyncio tasks are made for it.

`python -m benchmarks.traced serve` is `jobtrail serve` in which the calls of the event loop's thread are counted. At
each SIGUSR1 it says what there was so far.
"""

import asyncio
import json
import signal
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from operator import itemgetter
from pathlib import Path
from subprocess import Popen
from types import CodeType, FrameType

import jobtrail
from benchmarks.lab import BODY, Figure, Lab, asked
from jobtrail.cli import main

PACKAGE = str(Path(jobtrail.__file__).parent)


def calls(lab: Lab) -> Iterator[Figure]:
    """One job at a time through a process that only accepts, of which the least counts, since a node does a little by
    itself; then a backlog through one that only runs.
    """
    count = lab.size.singles
    with ExitStack() as stack:
        database = stack.enter_context(lab.database("calls"))
        traced = partial(lab.started, "benchmarks.traced", url=database.url)
        serve = stack.enter_context(traced("serve", "--json", JOBTRAIL_SLOTS="0", JOBTRAIL_PORT="0"))
        work = stack.enter_context(traced("work", "--json"))
        url = json.loads(lab.said(serve))["url"] + "/v1/jobs"
        lab.said(work)

        def submitted() -> dict[str, float]:
            asked("POST", url, BODY)  # what is made once is made
            return min((single() for _ in range(count)), key=itemgetter("calls"))

        def single() -> dict[str, float]:
            before = told(lab, serve)
            asked("POST", url, BODY)
            return per_job(before, told(lab, serve), 1)

        def run() -> dict[str, float]:
            database.settle()
            database.pause()
            database.prepare(lab.size.backlog)
            before = told(lab, work)
            database.resume()
            database.settle()
            return per_job(before, told(lab, work), lab.size.backlog)

        found = lab.in_turn({"POST to commit, one at a time": submitted, "claim to recorded, of a backlog": run}, 2)
    for name, figures in found.items():
        yield Figure(f"calls of our functions per job, {name}", "", figures["calls"])
        yield Figure(f"files that these are in, {name}", "", figures["files"])
        yield Figure(f"asyncio tasks per job, {name}", "", figures["tasks"])


def told(lab: Lab, process: Popen[str]) -> tuple[Counter[str], int]:
    process.send_signal(signal.SIGUSR1)
    called, tasks = json.loads(lab.said(process))
    return Counter(called), tasks


def per_job(before: tuple[Counter[str], int], after: tuple[Counter[str], int], count: int) -> dict[str, float]:
    """Without the task that was made to ask.

    A file counts when it is called for each second job at least; what a node does by itself is below that.
    """
    called = after[0] - before[0]
    files = sum(number >= count / 2 for number in called.values())
    return {"calls": called.total() / count, "files": files, "tasks": (after[1] - before[1] - 1) / count}


def trace() -> None:
    called: Counter[CodeType] = Counter()

    def on_event(frame: FrameType, event: str, _: object) -> None:
        # a coroutine that goes on after an await is told as a call too: only its first instructions count
        if event == "call" and frame.f_lasti <= FIRST and frame.f_code.co_filename.startswith(PACKAGE):
            called[frame.f_code] += frame.f_code.co_name not in INSIDE

    def tell(*_: object) -> None:
        task = asyncio.get_running_loop().create_task(asyncio.sleep(0))  # their default names are numbered
        files = Counter[str]()
        for code, number in list(called.items()):
            files[code.co_filename] += number
        print(json.dumps([files, int(task.get_name().rpartition("-")[2])]), flush=True)

    signal.signal(signal.SIGUSR1, tell)
    sys.setprofile(on_event)


FIRST = 8
"""Bytes of the instructions before the first of a coroutine's own."""

INSIDE = frozenset({"<listcomp>", "<setcomp>", "<dictcomp>", "<genexpr>"})
"""Parts of a function that Python 3.11 calls, and later ones do not."""


if __name__ == "__main__":
    trace()
    main()
