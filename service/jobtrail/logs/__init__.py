"""Log records: one line for each, with the ids of the running job (`lines`), and those that a job keeps (`kept`)."""

from jobtrail.logs.kept import attach, collect, detach
from jobtrail.logs.lines import BoundFields, bind, bound_in, configure, current, words_of

__all__ = ["BoundFields", "attach", "bind", "bound_in", "collect", "configure", "current", "detach", "words_of"]
