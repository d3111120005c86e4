"""THE CLIENT: jobs over HTTP, typed, for programs that have neither the database nor the app. It needs neither.

Read `jobs` and `nouns`: each call is written there once, as a coroutine. `asynchronous` has them awaited, and
`blocking` runs the same ones on connections that block; `connection` is the way of a call to the service and back,
over the two kinds of `http`. `submitting` is what is sent; `parsing`, `events` and `problems` read what comes back.
"""

try:
    from jobtrail.client.asynchronous import AsyncClient
except ModuleNotFoundError as error:
    if error.name not in ("httpx", "httpx_sse"):
        raise
    raise ImportError(f"jobtrail.client needs {error.name}: pip install 'jobtrail[client]'") from error
from jobtrail.client.blocking import Client, JobHandle
from jobtrail.client.jobs import AsyncJobHandle
from jobtrail.client.parsing import Moved, Page
from jobtrail.client.problems import ApiError
from jobtrail.client.submitting import Options, submission
from jobtrail.task.schedule import ScheduleSpec
from jobtrail.task.submission import Submission

__all__ = [
    "ApiError",
    "AsyncClient",
    "AsyncJobHandle",
    "Client",
    "JobHandle",
    "Moved",
    "Options",
    "Page",
    "ScheduleSpec",
    "Submission",
    "submission",
]
