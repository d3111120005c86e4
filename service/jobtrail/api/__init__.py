"""THE DOOR FOR PROGRAMS: HTTP is translated here once, into verbs on the way in and into problems on the way out.

Read `route` (a call and its row) and `routes` (where the calls are put), then the calls with their rows: `jobs`, `ops`
and `service`. Every call passes `middleware` (stand-alone only), `route` and `access`; `query`, `bodies` and `headers`
read what it sends. `schemas` describes the answers for OpenAPI, `representation` writes them. `problems` has the one
table of what each error becomes.
"""
