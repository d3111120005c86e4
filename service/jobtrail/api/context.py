"""The context of the routes: what they need, handed in by the composition roots."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Protocol
from uuid import UUID

from jobtrail.api.access import Access
from jobtrail.jobs.services import Services
from jobtrail.redaction import Redaction


class Launch(Protocol):
    """Hand a committed job to the node of this process. It returns at once and never raises."""

    def __call__(self, job_id: UUID, task: str, queue: str) -> None: ...


class ApiContext(Protocol):
    """Read anew with each request and not before: a host's routes are made while nothing is open yet."""

    @property
    def services(self) -> Services: ...

    @property
    def launch(self) -> Launch: ...

    @property
    def accepting(self) -> Callable[[], bool]:
        """False while the process shuts down."""

    @property
    def max_body(self) -> int:
        """In bytes."""

    @property
    def body_timeout(self) -> timedelta:
        """How long a body may take to arrive."""

    @property
    def streams(self) -> int:
        """Event streams of this process at most."""

    @property
    def stream_max(self) -> timedelta:
        """How long a stream goes on."""

    @property
    def access(self) -> Access: ...

    @property
    def redaction(self) -> Redaction: ...


@dataclass(frozen=True, slots=True)
class ServiceContext:
    """That of the stand-alone service."""

    services: Services
    launch: Launch
    accepting: Callable[[], bool]
    max_body: int
    access: Access
    body_timeout: timedelta = timedelta(seconds=30)
    redaction: Redaction = field(default_factory=Redaction)
    streams: int = 500
    stream_max: timedelta = timedelta(minutes=15)
