"""WHAT A JOB IS: words, numbers and decisions, without I/O.

Read `status`, `record`, `task` (with `arguments` and the types that `survival` lets through, `retry`, `limits`),
`context`, `catalog`, `submission`, `storable`, `outcome`, then `errors`.
"""
