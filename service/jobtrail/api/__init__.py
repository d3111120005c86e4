"""THE DOOR FOR PROGRAMS: HTTP is translated here once, into verbs on the way in and into problems on the way out.

Read `routes` (the table of calls), then the calls themselves: `submissions`, `jobs`, `bulk`, `tasks`, `nodes`,
`pauses`, `keys`, `audit`, `health`. Every call passes `middleware` (stand-alone only), `route`, `access` and `body`; an
error becomes an answer by `problem_types` and `problems`. `schemas` and `representation` say how records look outside.
"""
