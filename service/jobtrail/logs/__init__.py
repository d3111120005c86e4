"""Log records: the ids of the running job on them, one line for each, and the records that a job keeps.

Read `bound` (the ids), `lines` (the line), then `kept` (what a job itself logs).
"""

from jobtrail.logs.bound import BoundFields, bind, bound_in, current
from jobtrail.logs.kept import attach, collect, detach
from jobtrail.logs.lines import configure, words_of

__all__ = ["BoundFields", "attach", "bind", "bound_in", "collect", "configure", "current", "detach", "words_of"]
