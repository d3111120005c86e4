"""A mutant: one thing that is broken, and the tests that have to notice."""

import re
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import pytest
from sqlalchemy import event
from sqlalchemy.engine import Engine

from jobtrail.db.direct import Statement

Patch = pytest.MonkeyPatch


class Mutant(NamedTuple):
    """`guard`: the tests of which one must go red. `statements`: patterns, and what becomes of them in any SQL."""

    name: str
    guard: str
    breaks: Callable[[Patch], None] = lambda _patch: None
    statements: Sequence[tuple[str, str]] = ()

    def begin(self, patch: Patch) -> Counter[str]:
        """How often each pattern was found, counted from now on."""
        found = Counter(dict.fromkeys((pattern for pattern, _ in self.statements), 0))

        def broken(statement: str) -> str:
            for pattern, new in self.statements:
                statement, times = re.subn(pattern, new, statement)
                found[pattern] += times
            return statement

        def rewrite(_connection: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> tuple[str, Any]:
            return broken(statement), parameters

        of = Statement.of
        patch.setattr(Statement, "of", lambda statement, schema: broken(of(statement, schema)))
        event.listen(Engine, "before_cursor_execute", rewrite, retval=True)
        self.breaks(patch)
        return found
