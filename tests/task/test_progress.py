import math
from typing import Any

import pytest

from jobtrail.task.context import MAX_NOTE, Progress, progress_of


@pytest.mark.parametrize("said", [(0,), (0.5, 1), (3, 2), (10**15, 0, ""), (1, None, "a note")])
def test_what_can_be_said_comes_back(said: tuple[Any, ...]) -> None:
    assert progress_of(Progress(*said).as_json()) == Progress(*said)


UNFIT: list[tuple[type[Exception], list[tuple[Any, ...]]]] = [
    (TypeError, [("1",), (True,), (None,), (1, "2"), (1, 2, 3)]),
    (ValueError, [(-1,), (math.nan,), (math.inf,), (1, 10**16)]),
]


@pytest.mark.parametrize(("error", "said"), [(error, said) for error, values in UNFIT for said in values])
def test_what_cannot_be_shown_is_refused_where_it_is_said(said: tuple[Any, ...], error: type[Exception]) -> None:
    with pytest.raises(error, match="progress"):
        Progress(*said)


def test_a_note_is_cut_and_made_fit_to_store() -> None:
    note = Progress(1, note="\x00\ud800" + "n" * 10_000).as_json()["note"]
    assert note == "\\u0000\\ud800" + "n" * (MAX_NOTE - 2)


@pytest.mark.parametrize("found", [None, 5, "half", [1, 2], {}, {"total": 5}, {"done": None}, {"done": 1, "note": []}])
def test_anything_else_in_a_row_is_no_progress(found: object) -> None:
    assert progress_of(found) is None
