"""THE DOOR FOR PROGRAMS: HTTP is translated here once, into verbs on the way in and into problems on the way out.

Read `routes` (the table of calls), `submissions`, `jobs`, `bulk`, `pauses`, `keys` and `surroundings` (what they do),
`shell`, `route`, `access` and `body` (what every call passes through), `kinds` and `problems` (which error is which
answer), then `view` (what a caller is shown), `representation` and `schemas` (how things look).
"""
