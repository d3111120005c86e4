"""Bars in a terminal: how far one job is, and how many of many are done. They are gone when they end."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

from rich.console import Console, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, Task, TextColumn
from rich.progress_bar import ProgressBar
from rich.table import Column
from rich.text import Text

from jobtrail.cli import output
from jobtrail.records import Job, LogLine
from jobtrail.status import Status
from jobtrail.task.context import progress_of


class JobBar(Progress):
    """View of one job, with the lines of its log above it. `ahead`: how far the database's clock is before ours."""

    def __init__(self, *, ahead: timedelta) -> None:
        console = Console(highlight=False)
        super().__init__(
            TextColumn("{task.description}"),
            TextColumn("{task.fields[attempt]}"),
            _BarOrWheel(max(8, console.width // 4)),
            TextColumn("{task.fields[extent]}"),
            TextColumn("{task.fields[elapsed]}"),
            TextColumn("{task.fields[note]}", markup=False, table_column=Column(no_wrap=True, ratio=1)),
            console=console,
            transient=True,
            expand=True,
        )
        self._ahead = ahead
        self._task = self.add_task("", total=None, visible=False)

    def see(self, job: Job) -> None:
        is_running = job.status is Status.RUNNING
        progress = progress_of(job.progress) if is_running else None
        # since the attempt began, or since the job was stored
        elapsed = max(datetime.now(UTC) + self._ahead - (job.started_at or job.created_at), timedelta(0))
        # of a job that waits for its next attempt, why the last one failed
        note = progress.note if progress else output.error_line(job.error)
        self.update(
            self._task,
            description=f"[{output.STYLES.get(job.status, 'default')}]{job.status}[/]",
            attempt=f"{job.attempt}/{job.max_attempts}",
            progress=progress,
            extent=output.extent(progress),
            elapsed=str(timedelta(seconds=int(elapsed.total_seconds()))),
            note=output.cell("asked to stop" if is_running and job.cancel_requested_at else note),
            visible=True,
            refresh=True,
        )

    def hear(self, line: LogLine) -> None:
        self.console.print(Text(output.log_line(line)), soft_wrap=True)


class _BarOrWheel(SpinnerColumn):
    """A bar where there is something to fill, else a wheel that turns while the job runs or waits."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self._width = width

    def render(self, task: Task) -> RenderableType:
        progress = task.fields["progress"]
        if progress is None or progress.total is None:
            return super().render(task)
        return ProgressBar(progress.total, progress.done, width=self._width)


@contextmanager
def count_bar() -> Iterator[Callable[[int, int], None]]:
    """Shows on standard error how many jobs of how many are done, as it is called."""
    columns = (BarColumn(), MofNCompleteColumn(), TextColumn("jobs"))
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total, refresh=True)
