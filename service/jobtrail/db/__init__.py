"""THE WAY TO POSTGRESQL: connections, group commit, errors, migrations. It knows no job and no verb.

Read `engine` (the pools of a process, and their limits) with `host_engine` and `job_connection`, then `group_commit`,
`errors`, `tables`, `migrate` and `rights`; `embedded` runs a PostgreSQL where there is none.
"""
