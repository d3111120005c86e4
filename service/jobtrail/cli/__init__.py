"""THE DOOR FOR OPERATORS: it talks to the database, not to HTTP.

Read `entry` (the verbs and how one is run), `errand` (what each stands on) and `exits` (what each failure is worth);
then the verbs: `serve`, `database`, `submit`, `jobs`, `moves`, `pauses`, `audit`, `doctor`. `filters` are
the options that choose jobs, `output` prints for all verbs.
"""

from jobtrail.cli.entry import main

__all__ = ["main"]
