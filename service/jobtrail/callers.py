"""Callers and their scopes."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Final, Literal

Scope = Literal["read", "submit", "operate"]

SCOPES: Final[Sequence[Scope]] = ("read", "submit", "operate")
"""`read`: see every job. `submit`: submit jobs, see and cancel those of one's own. `operate`: see and change all."""


@dataclass(frozen=True, slots=True)
class Caller:
    """`name` is kept as `created_by` and as the actor in the history; at most 255 characters. `lives_for`: seconds that
    what it showed is good for, None without an end.
    """

    name: str
    scopes: frozenset[Scope]
    lives_for: float | None = None

    def __post_init__(self) -> None:
        """Raises ValueError for a scope that there is not."""
        if unknown := sorted({*self.scopes}.difference(SCOPES)):
            raise ValueError(f"a caller has no scope {unknown[0]!r}: there are {', '.join(SCOPES)}")
        object.__setattr__(self, "scopes", frozenset(self.scopes))

    def may(self, needs: Collection[Scope]) -> bool:
        """True if one of the scopes that are needed is there, or none is needed."""
        return not needs or not self.scopes.isdisjoint(needs) or ("read" in needs and self.sees_all)

    @property
    def sees_all(self) -> bool:
        """Else only the jobs that it submitted itself."""
        return not self.scopes.isdisjoint({"read", "operate"})

    @property
    def operates(self) -> bool:
        """Else it moves only what it submitted itself, and sees no tracebacks."""
        return "operate" in self.scopes


ANONYMOUS: Final = Caller("anonymous", frozenset(SCOPES))
"""The caller where no key is asked for."""
