"""THE DOOR FOR A HOST APP: jobs from inside somebody else's FastAPI app, or from a script of its own.

Read `trail` (Jobtrail: the whole of it), `opened` (what is open while it runs), `jobs` (the dependency `Jobs` of an
endpoint), `submit` (the one way from a typed call to a stored job), `handle` (a job that was submitted), `door` (our
routes among a host's).
"""
