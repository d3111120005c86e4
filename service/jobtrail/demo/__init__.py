"""SAMPLE JOBS on real input, registered only where this module is named: by `jobtrail demo`, or in JOBTRAIL_TASKS.

Read `tasks`, which is all that a user of Jobtrail would write; then `tour`, which `jobtrail demo` takes beside the
service: `trail` shows the history of all jobs, `hints` what to try, `mail` catches what a task sends.
"""

from jobtrail.demo.tasks import fetch_all, flaky, index_document, nap, send_mail, sum_range

__all__ = ["fetch_all", "flaky", "index_document", "nap", "send_mail", "sum_range"]
