"""THE COMMAND `jobtrail`, for operators: it talks to the database, not to HTTP.

Read `entry` (the verbs, the exit codes) and `command` (options, settings and services of a verb); then a noun: `jobs`,
`moves`, `submit`, `tail`, `stats`, `schedules`, `webhooks`, `ops` (the other nouns), `serve`, `database`, `demo`, and
`doctor` with `doctor_jobs` and `findings`. `output` prints for all.
"""

from jobtrail.cli.entry import main

__all__ = ["main"]
