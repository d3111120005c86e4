"""WHAT A JOB IS: words, numbers and decisions, without I/O.

Read `status`, `record`, `task` (with `signature`, `retry`, `limits`), `context`, `outcome`, then `errors`.
"""
