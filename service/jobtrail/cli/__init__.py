"""THE COMMAND `jobtrail`, for operators: it talks to the database, not to HTTP.

Read `entry` (the verbs), `command` (what each works with) and `exits` (exit codes); then a noun: `jobs` (`follow` and
`bar` show one that goes on), `moves`, `submit`, `pauses`, `keys`, `audit`, `serve`, `database`, `doctor` with `checks`,
`demo`. `filters` and `arguments` read options, `output` prints for all.
"""

from jobtrail.cli.entry import main

__all__ = ["main"]
