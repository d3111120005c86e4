"""WHAT A PROCESS KEEPS DOING: one loop class, slots, execution, leases, the janitor.

Read `node` (what starts and stops), then `worker`, `slots`, `execution`, `threads`, `leases`, `janitor`, `loop`.
"""
