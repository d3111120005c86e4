"""The ranges of what a job may say, once for every door. Lengths in characters, durations in seconds."""

from datetime import UTC, datetime
from typing import Final

MAX_TASK: Final = 200
MAX_QUEUE: Final = 100
MAX_KEY: Final = 255
MAX_NAME: Final = 255
"""The name of who submits or moves a job."""
MAX_REASON: Final = 1000
MAX_TAGS: Final = 20
MAX_TAG_LENGTH: Final = 64
MAX_ATTEMPTS: Final = 1000
MIN_PRIORITY: Final = 0
MAX_PRIORITY: Final = 9
DEFAULT_PRIORITY: Final = 5
MIN_TIMEOUT: Final = 0.001
MAX_TIMEOUT: Final = 30 * 86_400
MAX_TTL: Final = 10 * 365 * 86_400
MAX_CRON: Final = 200
MIN_EVERY: Final = 1
MAX_JITTER: Final = 86_400
FIRST_TIME: Final = datetime(1, 1, 2, tzinfo=UTC)
LAST_TIME: Final = datetime(9999, 12, 30, tzinfo=UTC)
"""The first and last times of a job: a day from the ends of what Python has, so that any zone can show them."""
MAX_BATCH: Final = 1000
MAX_BATCHED: Final = 10_000
"""Jobs of a batch that is counted."""
MAX_AFTER: Final = 1000
"""Jobs that one comes after."""
MAX_NESTING: Final = 64
MAX_DIGITS: Final = 400
MAX_CHECKPOINT: Final = 64 * 1024
"""Bytes of JSON."""
MAX_LIMITS: Final = 20
MAX_LIMIT_KEY: Final = 200
MAX_LANE: Final = 2000
"""Bytes of all limit keys of a job together, and three more for each key."""
MAX_NUMBER: Final = 10**15
MAX_PENDING: Final = 1_000_000
"""The largest `max_pending`: so many jobs are counted each second."""
MIN_PER: Final = 0.1
MAX_PER: Final = 7 * 86_400
LOG_LINES: Final = 1000
LOG_BYTES: Final = 256 * 1024
"""Limits of the log that is kept of a job, of all its attempts together; the bytes are those of the messages."""
LOG_LINE_BYTES: Final = 8 * 1024

LONGEST_WAIT: Final = 30
"""That a request waits for the end of a job."""

TASK_PATTERN: Final = r"^[A-Za-z_][A-Za-z0-9_.:-]{0,199}$"
QUEUE_PATTERN: Final = r"^[A-Za-z0-9_.:-]{1,100}$"
TRACE_PATTERN: Final = r"^[0-9a-f]{32}$"

OWN: Final = "jobtrail."
"""Begins the names of Jobtrail's own tasks and queues."""
RESERVED: Final = f"names that begin with {OWN} are those of Jobtrail's own jobs: take another one"

DEFAULT_SCHEMA: Final = "jobtrail"
SCHEMA_PATTERN: Final = r"(?!pg_|public$|information_schema$)[a-z_][a-z0-9_]{0,49}"
"""PostgreSQL keeps 63 bytes of a name, and names that begin with pg_ for itself; in `public` others have tables too."""
