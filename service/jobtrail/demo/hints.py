"""What to try while the demo runs, as commands that work from another terminal as they are printed."""

import json
import os
import shlex
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from jobtrail.db.programs import installed_programs
from jobtrail.durations import format_duration
from jobtrail.errors import SettingsError
from jobtrail.limits import DEFAULT_SCHEMA
from jobtrail.settings import EMBEDDED, Settings
from jobtrail.wiring import embedded

_HINTS: Final = """\
The API, to be tried in a browser: {url}/docs
The jobs: {jobs}
The documents that index_document may read: {samples}

From another terminal:

  # which jobs failed; the history of one; once more, by hand: its fourth attempt succeeds
  curl -s '{jobs}?status=failed'
  curl -s {jobs}/{failed}/transitions
  curl -s -X POST {jobs}/{failed}/retry

  # a job of your own; the same request again, with its key, is the same job
  {own}

  # a long nap, and its cancel
  job=$({long_nap} | sed 's/.*"id":"\\([^"]*\\)".*/\\1/')
  curl -s -X DELETE "{jobs}/$job?reason=enough"

  # the rows by command and in SQL, and what an auditor asks
  {same_database}
  {command} ls
  {command} audit failures_by_task
  {psql} "$({command} url)" -c 'TABLE {schema}.transitions'

  # a job that survives: it takes a minute, and this process is killed in the middle of it ...
  {nap}
  sleep 1; kill -9 {pid}
  # ... start it again as you did ({again}): once the lease, {lease}, has run out, the job runs again"""


def hints(url: str, settings: Settings, *, samples: str, failed: str) -> str:
    """`failed` is the id of a job that a retry by hand would bring to success."""
    jobs, command = f"{url}/v1/jobs", _command()
    return _HINTS.format(
        url=url,
        jobs=jobs,
        samples=samples,
        failed=failed,
        own=_post(jobs, "sum_range", {"n": 1_000_000}, "-H 'Idempotency-Key: mine' "),
        long_nap=_post(jobs, "nap", {"seconds": 600}),
        nap=_post(jobs, "nap", {"seconds": 60}),
        same_database=_same_database(settings),
        command=command,
        psql=_psql(),
        schema=settings.schema,
        pid=os.getpid(),
        again="make run" if "MAKELEVEL" in os.environ else f"{command} demo",
        lease=format_duration(settings.lease),
    )


def _post(jobs: str, task: str, args: Mapping[str, object], header: str = "") -> str:
    body = json.dumps({"task": task, "args": args})
    return f"curl -s -H 'Content-Type: application/json' {header}-d '{body}' {jobs}"


def _same_database(settings: Settings) -> str:
    if settings.database_url != EMBEDDED:
        return "# (with the same JOBTRAIL_DATABASE_URL)"
    schema = "" if settings.schema == DEFAULT_SCHEMA else f" JOBTRAIL_SCHEMA={settings.schema}"
    folder = shlex.quote(str(embedded(settings).folder))
    return f"export JOBTRAIL_DATABASE_URL={EMBEDDED} JOBTRAIL_DATA_DIR={folder}{schema}"


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
