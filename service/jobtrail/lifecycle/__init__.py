"""WHAT HAPPENS TO A JOB: one verb, one file. A verb decides with `job` and moves rows through `store`.

Read `desk` (what every verb needs), then `submit`, `run`, `finish`, `cancel`, `retry`, `bulk`, `amend`, `pause`,
`rescue`, `purge`.
"""
