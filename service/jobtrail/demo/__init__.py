"""SAMPLE JOBS on real input, registered only where this module is named: by `jobtrail demo`, or in JOBTRAIL_TASKS.

Read `tasks`, which is all that a user of Jobtrail would write; then what they work with: `documents`, `web`, `mail`,
and `place`, which says where the samples and the mail catcher are.
"""

from jobtrail.demo.tasks import fetch_all, flaky, index_document, nap, send_mail, sum_range

__all__ = ["fetch_all", "flaky", "index_document", "nap", "send_mail", "sum_range"]
