"""A module that a process for tasks imports slowly, if it is told to."""

import os
import time

from jobtrail import task

time.sleep(float(os.environ.get("SLOW_TO_IMPORT", "0")))


@task(runs_in="process")
def work() -> None:
    return
