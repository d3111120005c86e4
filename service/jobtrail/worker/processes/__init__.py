"""PROCESSES FOR TASKS that a node can kill: one job at a time each, nothing shared between them.

Read `messages`, `pool` (processes that wait for jobs), `spawned` (a process as its node sees it), `child` (its main)
and `runtime` (the context of its task).
"""
