"""What only HTTP can get wrong. The vocabulary of `job.errors` says the rest."""

from typing import Final

from jobtrail.job.errors import JobtrailError, UnknownTaskError


class BodyTooLargeError(JobtrailError):
    """The body is longer than `limit` bytes; it was not read to its end."""

    def __init__(self, limit: int) -> None:
        self.limit: Final = limit
        super().__init__(f"the body is longer than the limit of {limit} bytes")


class ContentTypeError(JobtrailError):
    """The body is not announced as JSON."""

    def __init__(self, content_type: str | None) -> None:
        self.content_type: Final = content_type
        said = "the header Content-Type is missing" if content_type is None else f"this is {content_type!r:.200}"
        super().__init__(f"the body must be application/json: {said}")


class TaskNotFoundError(UnknownTaskError):
    """The path names a task that is not registered here."""
