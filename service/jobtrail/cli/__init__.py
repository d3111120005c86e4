"""THE DOOR FOR OPERATORS: it talks to the database, not to HTTP.

Read `entry` (the verbs and how one is run), `errand` (what each stands on) and `exits` (what each failure is worth);
then the verbs: `serve`, `database`, `submit`, `jobs`, `moves`, `audit`, `doctor`. `output` prints for all of them.
"""

from jobtrail.cli.entry import main

__all__ = ["main"]
