"""THE DOOR FOR PROGRAMS: HTTP is translated here once, into verbs on the way in and into problems on the way out.

Read `route` (a call and its row) and `routes` (where the calls are put), then the calls with their rows: `jobs`,
`batches`, `events`, `schedules`, `webhooks`, `ops` (the other nouns of an operator), `stats` and `service`; `calls` has
what several of them need. Every call passes `middleware` (stand-alone only), `route` and `access`; `query`, `bodies`
and `headers` read what it sends.
`schemas` and `openapi` describe the answers, `representation` writes them, `stream` those of events; `links` has the
addresses in them. `problems` has the one table of what each error becomes. `context` is what all of it is handed.
"""
