"""SAMPLE JOBS on real input, registered only where this module is named: by `jobtrail demo`, or in JOBTRAIL_TASKS.

Read `tasks`, which is all that a user of Jobtrail would write; then `tour`, which `jobtrail demo` takes beside the
service: it shows the history of all jobs, and what to try.
"""

from jobtrail.demo.tasks import fetch_all, flaky, index_document, nap, send_mail, sum_range

__all__ = ["fetch_all", "flaky", "index_document", "nap", "send_mail", "sum_range"]
