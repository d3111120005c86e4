"""`jobtrail stats`: numbers for people, or the document of GET /stats."""

from operator import attrgetter
from typing import Final

import typer

from jobtrail.cli import output
from jobtrail.cli.command import Json, run
from jobtrail.events import numbers
from jobtrail.ranges import OWN
from jobtrail.records import Alarm, Stats

_QUEUES: Final = {
    "queue": "queue", "pending": "pending", "more": "more", "oldest pending": "oldest_pending_at", "running": "running",
}  # fmt: skip
_TASKS: Final = {"task": "task", "pending": "pending", "running": "running", "ended": "ended", "failed": "failed"}

_DELIVERIES: Final = "deliveries of webhooks, which no alarm counts:"


def stats(as_json: Json = False) -> None:
    """How much waits, runs and ended in the last hour, by queue and task, and whether an alarm rings.

    Pending jobs are counted to 1,000 of a queue and priority. JOBTRAIL_ALARM_PENDING, JOBTRAIL_ALARM_RUNNING and
    JOBTRAIL_ALARM_FAILURES say when an alarm rings; that is no failure of this command. Alarms leave deliveries of
    webhooks out.
    """
    found = run(lambda command: numbers.stats(command.services))
    if as_json:
        output.print_json(output.document(found))
        return
    output.print_fields(_summary(found))
    for records, columns in ((found.queues, _QUEUES), (found.tasks, _TASKS)):
        if records:
            typer.echo()
            output.answer_records(records, columns, none="", as_json=False)


def _summary(found: Stats) -> dict[str, object]:
    own = [each for each in found.tasks if each.task.startswith(OWN)]
    pending, ended, failed = (sum(map(attrgetter(name), own)) for name in ("pending", "ended", "failed"))
    return {
        "as of": found.as_of,
        "pending": f"{found.pending:,}{' or more' if found.more else ''}"
        + f" ({_DELIVERIES} {pending:,})" * bool(pending),
        "oldest pending": found.oldest_pending_at,
        "running": found.running,
        "oldest running": found.oldest_running_at,
        "ended": f"{found.ended:,} since {output.cell(found.since)}, {found.failed:,} of them failed"
        + f" ({_DELIVERIES} {ended:,}, {failed:,} of them failed)" * bool(ended),
        "nodes": found.nodes,
        "slots": ", ".join(f"{count} {kind}" for kind, count in found.slots.items()),
        "loop lag": f"{found.loop_lag:.3f} s",
        "numbers lag": f"{found.numbers_lag:.3f} s",
        "webhooks lag": f"{found.webhooks_lag:.3f} s",
        "alarms": "; ".join(map(told, found.ringing)) or "none",
    }


def told(alarm: Alarm) -> str:
    """An alarm that rings, in words."""
    match alarm.name:
        case "pending":
            return f"{alarm.value:,.0f} jobs are pending, more than {alarm.limit:,.0f}"
        case "running":
            return f"a job has run for {alarm.value:,.0f} s, longer than {alarm.limit:,.0f} s"
        case _:
            return f"{alarm.value:.1%} of the jobs of the last hour failed, more than {alarm.limit:.1%}"
