"""What `jobtrail doctor` finds about the jobs, and the nodes that run them."""

import shlex
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final

from jobtrail.cli.findings import Finding, Found, fault, ok, warn
from jobtrail.cli.stats import told
from jobtrail.durations import format_duration
from jobtrail.ops.doctor import Stranded
from jobtrail.ranges import OWN
from jobtrail.task.catalog import HOW_TO_PART

_NAMED: Final = 5
"""Tasks of stranded jobs that are listed."""

_LATE: Final = timedelta(minutes=5)
"""Beyond it what is derived from the feed stands still."""

_START_ONE: Final = "start `jobtrail serve` or `jobtrail work`"


def check_nodes(found: Found) -> Finding:
    living = f"living: {len(found.living)}"
    if found.silent:
        names = ", ".join(f"{node.host} pid {node.pid} since {_second(node.heartbeat_at)}" for node in found.silent)
        fix = "start them again if they are missed; the list forgets them after an hour"
        return warn("nodes", f"went silent: {names}; {living}", fix)
    if not found.living:
        return warn("nodes", "no node is running: nothing runs jobs", _START_ONE)
    if not any(sum(node.slots.values()) for node in found.living):
        detail = f"{living}, and each of them only accepts jobs: nothing runs them"
        return warn("nodes", detail, "start `jobtrail work`, or raise JOBTRAIL_SLOTS of a service")
    return ok("nodes", living)


def check_left_behind(found: Found) -> Finding:
    """A slot that is not given back makes its node smaller, for as long as it lives."""
    holding = [node for node in found.living if node.left_behind]
    if not holding:
        return ok("left behind", "every task ended when it was told to")
    counts = ", ".join(f"{node.left_behind} on {node.host} pid {node.pid}" for node in holding)
    detail = f"tasks go on although they were told to end, and each keeps its slot: {counts}"
    fix = (
        'find them in the log ("did not end when told to"), let them look at context.cancelled; to free the slots '
        "restart the node"
    )
    return warn("left behind", detail, fix)


def check_running(found: Found) -> Finding:
    if not found.lapsed:
        return ok("running", "every running job has a node that vouches for it")
    jobs, since = sum(each.jobs for each in found.lapsed), _second(min(each.since for each in found.lapsed))
    detail = f"{jobs} running jobs have no node any more; the first lease ran out at {since}"
    if found.living:
        return warn("running", detail, "none, a living node rescues them within seconds")
    return fault("running", detail, f"{_START_ONE}: any node rescues them")


def check_rescue(found: Found) -> Finding:
    """How long a job of a node that died waits at most: its lease, which was renewed just before, then the next look of
    a living node, which comes each quarter of a lease give or take a tenth, then the next poll.
    """
    lease = max((node.lease for node in found.living), default=found.settings.lease)
    bound = format_duration(lease * 1.275 + found.settings.poll_every * 1.1)
    detail = (
        f"jobs of a node that dies are running again, or ended, within {bound}: by its lease of "
        f"{format_duration(lease)}; up to a lease later when the database was away, or every node"
    )
    return ok("rescue", detail)


def check_pending(found: Found) -> Finding:
    """A fault only for tasks that this process does not know either. Each version knows Jobtrail's own."""
    own = [each for each in found.stranded if each.task.startswith(OWN)]
    unknown = [each for each in found.stranded if each.task not in found.catalog and each not in own]
    first, more = (unknown or found.stranded)[:_NAMED], (unknown or found.stranded)[_NAMED:]
    counts = ", ".join([f"{each.jobs} of {each.task} in queue {each.queue}" for each in first] + ["…"] * bool(more))
    if unknown:
        fix = "add the modules of these tasks to JOBTRAIL_TASKS of a node, or cancel the jobs"
        return fault("pending", f"no node knows the task: {counts}", fix)
    if found.stranded:
        return warn("pending", f"no living node takes: {counts}", _start_one_for(found.stranded, own))
    return ok("pending", "every pending job has a node that can run it")


def _start_one_for(stranded: Sequence[Stranded], own: Sequence[Stranded]) -> str:
    """For Jobtrail's own no module has to be named."""
    queues = "".join(f" --queue {queue}" for queue in sorted({each.queue for each in own}))
    for_own = f"start `jobtrail work{queues}`"
    if len(own) == len(stranded):
        return for_own
    fix = (
        "start `jobtrail work` with these tasks (JOBTRAIL_TASKS), with their queues (--queue), and with places for "
        "them (--slots, --threads, --processes)"
    )
    return f"{fix}; for Jobtrail's own {for_own}" if own else fix


def check_pauses(found: Found) -> Finding:
    """A pause is wanted, and easily forgotten."""
    if not found.pauses:
        return ok("pauses", "nothing is paused")
    names = [f"{each.kind} {each.name} by {each.paused_by} since {_second(each.paused_at)}" for each in found.pauses]
    fix = "; ".join(f"`jobtrail resume --{each.kind} {shlex.quote(each.name)}`" for each in found.pauses)
    return warn("pauses", f"paused: {', '.join(names)}", f"when they may go on: {fix}")


def check_namesakes(found: Found) -> Finding:
    if not found.namesakes:
        return ok("namesakes", f"one app: in schema {found.settings.schema} no task is known twice")
    return warn("namesakes", "; ".join(map(str, found.namesakes)), HOW_TO_PART)


def check_alarms(found: Found) -> Finding:
    """By the same limits as `jobtrail stats`."""
    ringing = () if found.stats is None else found.stats.ringing
    if not ringing:
        return ok("alarms", "no number is beyond its limit")
    names = ", ".join(f"JOBTRAIL_ALARM_{each.name.upper()}" for each in ringing)
    fix = f"`jobtrail stats` tells which queues and tasks; the limits are {names}"
    return warn("alarms", "; ".join(map(told, ringing)), fix)


def check_feed(found: Found) -> Finding:
    """Whether deliveries are made and jobs are counted, which any node does within seconds."""
    lags = () if found.stats is None else (("webhooks", found.stats.webhooks_lag), ("numbers", found.stats.numbers_lag))
    late = [(name, timedelta(seconds=round(lag))) for name, lag in lags if lag > _LATE.total_seconds()]
    if not late:
        return ok("feed", "webhooks and numbers keep up with what happens")
    detail = ", ".join(f"{name} are {format_duration(lag)} behind" for name, lag in late)
    holder = found.holder
    if not found.living:
        return warn("feed", f"{detail}: no node is running", _START_ONE)
    if holder is not None:
        since = "" if holder.since is None else f" since {_second(holder.since)}"
        detail += (
            f": a transaction of backend {holder.pid} ({holder.application}) has locked jobtrail.feed_cursors{since}"
        )
        return warn("feed", detail, f"end it, if it is no work of a node: SELECT pg_terminate_backend({holder.pid})")
    names = " and ".join(f"background loop {name!r}" for name, _ in late)
    return warn("feed", detail, f"the log of the nodes says why, in the lines with {names}")


def _second(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M:%S}"
