"""WHAT AN OPERATOR ASKS: each question is one file that psql runs as it is.

Read `sql/history_of_job.sql` and the others beside it, then `questions`, which asks them from Python.
"""
