"""WHAT A JOB IS: words, numbers and decisions, without I/O.

Read `status`, `record`, `task` (with `signature`, `retry`, `limits`), `context` (with `progress`), `asks`, `outcome`,
`calls` (Retry around any call; the one place that needs a library), then `errors`.
"""
