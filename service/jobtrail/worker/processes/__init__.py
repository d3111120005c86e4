"""PROCESSES FOR TASKS that a node can kill: one job at a time each, nothing shared between them.

Read `messages` (what crosses), `pool` (what the node lends for a job), `spawned` and `interpreter` (a process as its
node sees it), then `child` (what runs there), `tasks`, `ties`
and `line`.
"""
