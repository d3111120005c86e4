"""THE WAY TO POSTGRESQL: connections, group commit, errors, migrations. It knows no job and no verb.

Read `engine` (the pools of a process, and their limits) with `url`, `host_engine`, `job_connection` and `direct`
(single statements), then `group_commit`, `errors`, `hints` (NOTIFY), `tables`, `migrate` and `rights`. `loop` calls
everything periodic. `embedded` runs a PostgreSQL where there is none, by its own `programs`; `scratch` makes databases
for tests.
"""
