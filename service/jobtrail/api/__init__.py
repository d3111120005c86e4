"""THE DOOR FOR PROGRAMS: HTTP is translated here once, into verbs on the way in and into problems on the way out.

Read `routes` (the table of calls), then the calls themselves: `jobs` and `service`. Every call passes `middleware`
(stand-alone only), `route` and `access`; `query`, `bodies` and `headers` read what it sends. `schemas` describes the
answers for OpenAPI, `representation` writes them. An error becomes an answer by `problem_types` and `problems`.
"""
