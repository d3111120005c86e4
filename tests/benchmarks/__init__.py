"""What Jobtrail costs, beside FastAPI without it, PgQueuer, and its own statements in a bare loop: `make bench`.

`lab` has the PostgreSQL, the processes and what they spend; each other module has one kind of measure.
"""
