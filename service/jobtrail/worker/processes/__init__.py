"""PROCESSES FOR TASKS that a node can kill: one job at a time each, nothing shared between them.

Read `messages`, `pool` (the node's side), `child` (main of a process) and `runtime` (the context and log of its task).
"""
