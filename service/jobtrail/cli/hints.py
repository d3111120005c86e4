"""What to try while the demo runs, as commands that work from another terminal as they are printed."""

import json
import os
import shlex
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path

from jobtrail.job.duration import format_duration
from jobtrail.job.errors import SettingsError
from jobtrail.settings import EMBEDDED, Settings
from jobtrail.store.embedded import default_folder
from jobtrail.store.embedded.programs import installed_programs


def hints(url: str, settings: Settings, *, samples: str, failed: str) -> str:
    """`failed` is the id of a job that a retry by hand would bring to success."""
    jobs = f"{url}/v1/jobs"
    return "\n".join(
        [
            f"The API, to be tried in a browser: {url}/docs",
            f"The jobs: {jobs}",
            f"The documents that index_document may read: {samples}",
            "",
            "From another terminal:",
            "",
            "  # which jobs failed; the history of one; once more, by hand: its fourth attempt succeeds",
            f"  curl -s {shlex.quote(f'{jobs}?status=failed')}",
            f"  curl -s {jobs}/{failed}/transitions",
            f"  curl -s -X POST {jobs}/{failed}/retry",
            "",
            "  # a job of your own; a repeat with the same key is the same job",
            f"  {_post(jobs, 'sum_range', {'n': 1_000_000}, key='mine')}",
            "",
            "  # a long nap, and its cancel",
            f'  job=$({_post(jobs, "nap", {"seconds": 600})} | sed \'s/.*"id":"\\([^"]*\\)".*/\\1/\')',
            f'  curl -s -X DELETE "{jobs}/$job?reason=enough"',
            "",
            f"  # a job that survives: kill the demo, start it again; after the lease, {format_duration(settings.lease)},",
            "  # the nap is taken from the dead process and begins again",
            f"  {_post(jobs, 'nap', {'seconds': 10})}",
            f"  kill -9 {os.getpid()}",
            "",
            "  # the same rows in SQL, and what an auditor asks",
            *(f"  {line}" for line in _operators_view(settings)),
        ]
    )


def _post(jobs: str, task: str, args: Mapping[str, object], key: str | None = None) -> str:
    headers = "-H 'Content-Type: application/json'" + (f" -H 'Idempotency-Key: {key}'" if key else "")
    return f"curl -s {headers} -d {shlex.quote(json.dumps({'task': task, 'args': args}))} {jobs}"


def _operators_view(settings: Settings) -> list[str]:
    command, psql = _command(), _psql()
    lines = [
        f"{command} ls",
        f"{command} audit failures_by_task",
        f'{psql} "$({command} url)" -c "SELECT task, status, attempt FROM jobtrail.jobs ORDER BY id"',
    ]
    if settings.database_url == EMBEDDED:
        folder = shlex.quote(str((settings.data_dir or default_folder()).resolve()))
        return [f"export JOBTRAIL_DATABASE_URL={EMBEDDED} JOBTRAIL_DATA_DIR={folder}", *lines]
    return ["# (with the same JOBTRAIL_DATABASE_URL)", *lines]


def _command() -> str:
    """`jobtrail` where the shell finds this very one, else with its folder."""
    ours = Path(sys.executable).with_name("jobtrail")
    if not ours.exists():
        return f"{shlex.quote(sys.executable)} -m jobtrail"
    return "jobtrail" if shutil.which("jobtrail") == str(ours) else shlex.quote(str(ours))


def _psql() -> str:
    """The system's, or else the one that came with the embedded PostgreSQL."""
    if shutil.which("psql"):
        return "psql"
    try:
        return shlex.quote(str(installed_programs().where / "psql"))
    except SettingsError:
        return "psql"
