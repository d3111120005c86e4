"""What a task may say of its jobs, checked when it is declared; each refusal names the option and the fix."""

import re
from dataclasses import dataclass
from typing import Any, Literal

from jobtrail.job import limits
from jobtrail.job.errors import DeclarationError
from jobtrail.job.retry import Retry


@dataclass(frozen=True)
class Check:
    """Each check gives the value back, or raises DeclarationError."""

    where: str

    def name(self, value: str) -> str:
        advice = "letters, digits and _ . : - after a letter or _, at most 200 of them"
        return self._matching("name", value, limits.TASK_PATTERN, advice)

    def queue(self, value: str) -> str:
        return self._matching("queue", value, limits.QUEUE_PATTERN, "letters, digits and _ . : -, 1 to 100 of them")

    def priority(self, value: int) -> int:
        return self._whole("priority", value, limits.MIN_PRIORITY, limits.MAX_PRIORITY, "higher goes first")

    def max_attempts(self, value: int) -> int:
        return self._whole("max_attempts", value, 1, limits.MAX_ATTEMPTS, "how often a job may be started")

    def timeout(self, value: float | None) -> float | None:
        return self._seconds("timeout", value, limits.MIN_TIMEOUT, limits.MAX_TIMEOUT, "None for no limit")

    def ttl(self, value: float | None) -> float | None:
        return self._seconds("ttl", value, 0, limits.MAX_TTL, "None to keep the rows")

    def retry(self, value: Retry | None, max_attempts: int) -> Retry | None:
        if not isinstance(value, Retry | None):
            raise self._refusal("retry", value, "write Retry(…), or None if errors are final")
        if value is not None and value.max_attempts is not None:
            told = f"max_attempts={value.max_attempts}"
            raise self._refusal("retry", value, f"for jobs the task counts: move {told} out of the Retry, to the task")
        if value is not None and max_attempts == 1:
            raise self._refusal(
                "retry", value, "it can never act with max_attempts=1; write how often a job may be started"
            )
        return value

    def runs_in(self, value: str | None, *, is_async: bool) -> Literal["loop", "thread", "process"]:
        """`async def` runs on the loop; `def` in a thread, or in a process if it says so."""
        match value, is_async:
            case ((None | "loop"), True):
                return "loop"
            case ((None | "thread"), False):
                return "thread"
            case "process", False:
                return "process"
            case "process", _:
                raise self._refusal(
                    "runs_in", value, "a process runs a def; write def, with asyncio.run(…) in it if it needs a loop"
                )
            case "loop", _:
                raise self._refusal("runs_in", value, "a def would block the loop; write async def, or leave it out")
            case "thread", _:
                raise self._refusal("runs_in", value, "an async def runs on the loop; write def, or leave it out")
            case _:
                raise self._refusal("runs_in", value, "write 'loop', 'thread' or 'process', or leave it out")

    def _matching(self, option: str, value: Any, pattern: str, advice: str) -> str:
        if isinstance(value, str) and re.fullmatch(pattern, value):
            return value
        raise self._refusal(option, value, f"write {advice}")

    def _whole(self, option: str, value: Any, least: int, most: int, meaning: str) -> int:
        if type(value) is int and least <= value <= most:
            return value
        raise self._refusal(option, value, f"write a whole number from {least} to {most} ({meaning})")

    def _seconds(self, option: str, value: Any, least: float, most: float, meaning: str) -> float | None:
        if value is None or (type(value) in (int, float) and least <= value <= most):
            return None if value is None else float(value)
        raise self._refusal(option, value, f"write seconds from {least:g} to {most}, {meaning}")

    def _refusal(self, option: str, value: object, advice: str) -> DeclarationError:
        return DeclarationError(f"{self.where}, {option}={value!r}: {advice}")
