"""Log records: one line for each, with the ids of the running job (`lines`), and those that a job keeps (`kept`)."""

from jobtrail.logs.kept import attach, detach, keep_with
from jobtrail.logs.lines import BoundFields, bind, bound_in, configure, current, set_fields, words_of

__all__ = [
    "BoundFields",
    "attach",
    "bind",
    "bound_in",
    "configure",
    "current",
    "detach",
    "keep_with",
    "set_fields",
    "words_of",
]
