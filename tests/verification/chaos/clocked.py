"""`python -m chaos.clocked …` is `jobtrail …` in a process whose clock is wrong by CHAOS_CLOCK seconds.

It says first, in a line of its log, what time it believes to be, and which it is: the latter by the file system.
"""

import json
import os
import sys
import tempfile
from datetime import UTC, datetime, timedelta

import time_machine

from jobtrail import cli

WRONG_BY = "CHAOS_CLOCK"


def main() -> None:
    wrong_by = timedelta(seconds=float(os.environ[WRONG_BY]))
    with time_machine.travel(datetime.now(UTC) + wrong_by, tick=True):
        with tempfile.TemporaryFile() as file:
            true = datetime.fromtimestamp(os.fstat(file.fileno()).st_mtime, UTC)
        believed = datetime.now(UTC)
        said = {"believes": believed.isoformat(), "wrong_by": round((believed - true).total_seconds())}
        print(json.dumps(said), file=sys.stderr, flush=True)
        cli.main()


if __name__ == "__main__":
    main()
