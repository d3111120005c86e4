"""What only HTTP can get wrong. The vocabulary of `job.errors` says the rest."""

from typing import Final

from jobtrail.job.errors import JobtrailError, UnavailableError, UnknownTaskError


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


class ProblemNotFoundError(JobtrailError):
    """The path names no kind of problem."""

    def __init__(self, slug: str) -> None:
        self.slug: Final = slug
        super().__init__(f"there is no such kind of problem: {slug!r:.200}; the list is one level up")


class BodyTooSlowError(JobtrailError):
    """The body did not arrive within `seconds`."""

    def __init__(self, seconds: float) -> None:
        self.seconds: Final = seconds
        super().__init__(f"the body did not arrive within {seconds:g} s")


class NotThisMachineError(JobtrailError):
    """While there are no access keys: a request that was not made for this machine, as its `header` tells."""

    def __init__(self, header: str, said: str) -> None:
        self.header: Final = header
        self.said: Final = said
        super().__init__(
            f"as long as there are no access keys only this machine is served, and {header} is {said!r:.200}: call it "
            "by localhost or 127.0.0.1, or make a key with `jobtrail keys create`, which every caller must send then"
        )


class TooManyConnectionsError(UnavailableError):
    """More than `most` connections are open; this one is closed."""

    def __init__(self, most: int) -> None:
        self.most: Final = most
        super().__init__(f"more than {most} connections are open; this one is closed")
