"""One line of a terminal that shows how far a job is, and the lines of its log above it."""

from datetime import UTC, datetime, timedelta
from types import TracebackType
from typing import Self

from rich.console import Console, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from jobtrail.cli import output
from jobtrail.cli.follow import extent
from jobtrail.job.context import Progress, progress_of
from jobtrail.job.record import Job, LogLine
from jobtrail.job.status import Status


class Bar:
    """Within `with`; it is gone afterwards. `ahead`: how far the database's clock is before ours."""

    def __init__(self, *, ahead: timedelta) -> None:
        self._ahead = ahead
        self._job: Job | None = None
        self._wheel = Spinner("dots")
        self._live = Live(console=Console(highlight=False), get_renderable=self._render, transient=True)

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self._live.stop()

    def see(self, job: Job) -> None:
        self._job = job
        self._live.refresh()

    def hear(self, line: LogLine) -> None:
        self._live.console.print(Text(output.log_line(line)), soft_wrap=True)

    def _render(self) -> RenderableType:
        return "" if self._job is None else self._line(self._job)

    def _line(self, job: Job) -> RenderableType:
        """A bar where there is something to fill, else a wheel that turns while the job runs or waits."""
        progress = progress_of(job.progress) if job.status is Status.RUNNING else None
        line = Table.grid(padding=(0, 2, 0, 0), expand=True)
        for ratio in (None, None, None, None, None, 1):
            line.add_column(no_wrap=True, ratio=ratio)
        if progress is None or progress.total is None:
            moving: RenderableType = self._wheel
        else:
            moving = ProgressBar(progress.total, progress.done, width=max(8, self._live.console.width // 4))
        line.add_row(
            Text(job.status, output.STYLES.get(job.status, "")),
            f"{job.attempt}/{job.max_attempts}",
            moving,
            "" if progress is None else extent(progress),
            self._elapsed(job),
            Text(output.cell(_note(job, progress)), overflow="ellipsis"),
        )
        return line

    def _elapsed(self, job: Job) -> str:
        """Since the attempt began, or since the job was stored."""
        since = job.started_at or job.created_at
        elapsed = max(datetime.now(UTC) + self._ahead - since, timedelta(0))
        return str(timedelta(seconds=int(elapsed.total_seconds())))


def _note(job: Job, progress: Progress | None) -> str:
    """What there is to know beside: of a job that waits for its next attempt, why the last one failed."""
    if job.status is Status.RUNNING and job.cancel_requested_at:
        return "asked to stop"
    return (progress.note if progress else output.in_a_line(job.error)) or ""
