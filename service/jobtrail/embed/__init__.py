"""THE DOOR FOR A HOST APP: jobs from inside another FastAPI app, or from a script.

Read `trail` (Jobtrail, the object that a host makes), `opened` (the services and the node while it runs), `jobs` (the
dependency `Jobs`), `added` (the one path from a typed call to a stored job), `handle` (a submitted job) and `router`
(our routes in a host's app).
"""
