"""AN OPERATOR'S NOUNS: one noun, one file, with its table, its SQL and its verbs.

`pauses`, `nodes`, `keys` with `access`, `audit` (questions that psql runs too) and `doctor`, in any order.
"""
