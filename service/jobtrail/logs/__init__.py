"""Log records: how they look and where they go, with the ids of the job that is running, and kept with it.

Read `lines` (their form), `configured` (where they go), `bound` (the ids), then `caught` (what a job itself says).
"""

from jobtrail.logs.bound import BoundFields, bind, bound_in, current
from jobtrail.logs.caught import collect
from jobtrail.logs.configured import configure
from jobtrail.logs.lines import OneLine, words_of

__all__ = [
    "BoundFields",
    "OneLine",
    "bind",
    "bound_in",
    "collect",
    "configure",
    "current",
    "words_of",
]
