"""The one writer of `status`: each move is one guarded statement that names its start and returns what it moved.

Read in the order of a job's life: `insert`, `claim`, `finish` (with `renew`), then `cancel`, `retry`, `rescue`.
`pick` finds the many jobs of a bulk cancel or retry.
"""
