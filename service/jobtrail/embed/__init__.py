"""THE DOOR FOR A HOST APP: jobs from inside somebody else's FastAPI app, or from a script of its own.

Read `trail` (Jobtrail: the whole of it), `opened` (what is open while it runs), `jobs` (what an endpoint gets),
`calls` (from a typed call to a job that may be stored), `handle` (a job that was submitted), `door` (our routes among a
host's).
"""
