"""THE PROCESS THAT RUNS JOBS: one loop class, claims, attempts on three executors, leases, maintenance.

Read `node` (start and stop), `worker` (slots and claims), `attempts`, `attempt` and `run` (from a claim to its recorded
outcome), `execution` and `executors` with `threads` and `processes` (how a task is run and stopped), `reports` (its
progress and log lines), then `leases`, `watchdog` and `periodic`.
"""
