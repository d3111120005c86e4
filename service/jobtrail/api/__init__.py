"""THE DOOR FOR PROGRAMS: HTTP is translated here once, into verbs on the way in and into problems on the way out.

Read `routes` (the table of calls), `submissions` and `jobs` (what they do), `route` and `body` (what every call passes
through), then `problems` (which error is which answer), `representation` and `schemas` (how things look).
"""
