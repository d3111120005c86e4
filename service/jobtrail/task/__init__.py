"""A DECLARED FUNCTION, AND WHAT ITS ATTEMPTS COME TO: decisions in plain code, without I/O.

Read `task` with what it is declared with: `arguments` (and the types that `survival` lets through), `retry`,
`schedule`, `limit` and `unique` (their keys are a `template`). Then `context`, which an attempt gets, with
`checkpoint`; `catalog`, the tasks of a process; `submission`, the request for a job; `storable`, what the database can
hold; `outcome`, what an attempt came to; and what callers are told: `result` and `job_events`. The words of all this
lie beside the package: `records`, `errors`, `status`, `ranges`.
"""
