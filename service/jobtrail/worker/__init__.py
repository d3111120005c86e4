"""THE PROCESS THAT RUNS JOBS: claims, attempts on three executors, leases, maintenance. Each thing that it does again
and again is a tick of the one `Loop` (`db/loop`).

Read `node` (start and stop), `worker` (the claims) with `slots` and `limited` (claims of jobs that have limits), then
an attempt: `attempts` (all that this node holds), `attempt` (one, from its claim to its recorded outcome), `executors`
with `threads` and `processes` (how its task is run and stopped), `runtime` (what the context of its task can do) and
`followers` (what waited for its end). `reports` writes progress and log lines. Then what goes on beside the attempts:
`leases`, `watchdog`, `listener` (hints of other processes), `maintenance` and `shutdown_signals`.
"""
