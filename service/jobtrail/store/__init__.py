"""WHAT THE DATABASE KNOWS: the only SQL besides the audit's questions.

Read `tables` and `schema`, then `transitions` (the one writer of `status`), `group`, `engine` and `faults`, then what
only reads or removes: `jobs`, `nodes`, `pauses`, `amend`, `expiry`; `embedded` runs a PostgreSQL where there is none.
"""
