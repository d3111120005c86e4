"""BackgroundTasks that survive a restart: every job is one PostgreSQL row that you can watch, retry and audit."""

from jobtrail.job.asks import Again, Fail
from jobtrail.job.context import JobContext
from jobtrail.job.retry import Retry
from jobtrail.job.task import Task, task

__all__ = ["Again", "Fail", "JobContext", "Retry", "Task", "task"]
