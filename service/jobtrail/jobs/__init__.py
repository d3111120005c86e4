"""THE MACHINE: one verb, one file, with its rule and its SQL. Nothing else writes `status`: each move is one guarded
statement that names its start and returns what it moved.

Read `services` (what every verb needs), then the verbs in the order of a job's life:

- born: `submit` and `insert`, `host_session` (in a session of the host's), `fire` (by a schedule); refused where there
  is no room, by `on_full` or `max_pending`;
- running: `claim`, `fence` (what a node may write to), `renew`, `progress`, `checkpoint`, `charge`, `finish` with
  `job_session`, `rescue`;
- after that: `after` (the jobs that come after it), `purge`;
- by hand: `cancel`, `retry`, `amend`, and `bulk` for many.

`query`, `history` and `log` read, though `log` keeps the lines too. `meters` counts what this process does.
"""
