"""THE MACHINE: one verb, one file, with its rule and its SQL. Nothing else writes `status`: each move is one guarded
statement that names its start and returns what it moved.

Read `services` (what every verb needs), then the verbs in the order of a job's life: `submit` with `row`, `claim`,
`renew` (with the fence), `finish` with `session`, then `cancel`, `retry`, `bulk`, `amend`, `rescue`, `purge`. `query`,
`history` and `log` only read.
"""
