"""THE PROCESS THAT RUNS JOBS: one loop class, claims, attempts in three kinds of place, leases, upkeep.

Read `node` (what starts and stops), `worker` and `slots` (what is claimed), `attempts`, `run`, `attempt` and `handover`
(from a claim to its recorded end), `execution` and `places` with `threads` and `processes` (how a task is run and
stopped), `reports` and `report` (what it says meanwhile), then `leases`, `watchdog` and `periodic`.
"""
