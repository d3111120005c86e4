import dataclasses
import enum
import itertools
import json
from datetime import date
from typing import Any
from uuid import UUID

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, field_serializer

from jobtrail.errors import InvalidInputError, NotJsonError, ResultNotJsonError, ResultTooLargeError
from jobtrail.task.storable import MAX_FLAWS, check, clip, dump, parse, result_to_json

DEEPEST = 64


def nested(levels: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(levels - 1):
        value = [value]
    return value


def flaws_of(raw: str | bytes) -> list[tuple[str, str]]:
    with pytest.raises(InvalidInputError) as caught:
        parse(raw if isinstance(raw, bytes) else raw.encode())
    return [(flaw.pointer, flaw.detail) for flaw in caught.value.flaws]


TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))
SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXTS
JSON = st.recursive(SCALARS, lambda inner: st.lists(inner) | st.dictionaries(TEXTS, inner), max_leaves=20)


@given(JSON)
@example(nested(DEEPEST))
@example([10**308, nested(DEEPEST - 1), nested(DEEPEST - 1)])
@settings(deadline=None)
def test_what_json_can_say_is_stored_as_it_was_sent(value: object) -> None:
    assert check(value) == []
    assert parse(dump(value).encode()) == value
    assert parse(json.dumps(value, indent=1).encode()) == value


TOO_LARGE = "a number beyond the range of a double"
TOO_LONG = "a number of more than 400 digits"
REPEATED = "the name appears more than once in its object"
TOO_DEEP = "nested more than 64 levels deep"
NUL, LONE = "the text has the character U+0000", "the text has a lone surrogate"
REFUSED = {
    **{key: [("", TOO_LARGE)] for key in ("Infinity", "-Infinity", "-1E+999", f"{'9' * 250}e99", "9" * 309)},
    **{key: [("", TOO_LONG)] for key in ("9" * 401, "9" * 5000, f"0.{'0' * 400}")},
    "NaN": [("", "NaN is not JSON")],
    r'"\udFFF\u0000"': [("", NUL), ("", LONE)],
    r'{"a\u0000": 1}': [("/a\\u0000", "its name has the character U+0000")],
    r'{"\uDBff": 1}': [("/\\udbff", "its name has a lone surrogate")],
    '{"a": 1, "b": 2, "b": 3, "b": 4}': [("/b", REPEATED)],
}


@given(st.lists(TEXTS | st.integers(0, 3), max_size=9))
@settings(deadline=None)
def test_a_flaw_is_told_where_it_stands(path: list[str | int]) -> None:
    assume("" not in path)
    place = "".join("/" + str(key).replace("~", "~0").replace("/", "~1") for key in path)
    for refused, flaws in REFUSED.items():
        raw = refused
        for key in reversed(path):
            raw = f"[{'0, ' * key}{raw}, {{}}]" if isinstance(key, int) else f'{{{json.dumps(key)}: {raw}, "": []}}'
        assert flaws_of(raw) == [(place + pointer, detail) for pointer, detail in flaws]


@pytest.mark.parametrize(
    ("raw", "flaws"),
    [
        (f"[{','.join(['NaN'] * 5000)}]", [(f"/{n}", "NaN is not JSON") for n in range(MAX_FLAWS)]),
        ("[" * 65 + "]" * 65, [("/0" * 64, TOO_DEEP)]),
        ('{"a":' * 64 + "[]" + "}" * 64, [("/a" * 64, TOO_DEEP)]),
        ("[" * 100_000, [("/0" * 64, TOO_DEEP)]),
        (r'[{}, "[[\"[", {"~a": [[], ' * 30_000, [("/2/~0a/1" * 21 + "/0", TOO_DEEP)]),
    ],
    ids=["many", "lists", "objects", "far too deep", "mixed and far too deep"],
)
def test_json_too_deep_or_wrong_too_often_is_refused_where_it_stands(raw: str, flaws: list[tuple[str, str]]) -> None:
    assert flaws_of(raw) == flaws


@pytest.mark.parametrize(
    "raw",
    [f"[{'9' * 308}]", f"[0.{'0' * 399}]", r'["\ud83d\ude00", "\\u0000", "\\ud800"]', "[1e-400, 1e+2]", "[-0, 1E308]"],
    ids=["308 digits", "400 digits", "pair and escaped escapes", "small", "signs"],
)
def test_what_looks_alike_and_can_be_stored_is_taken(raw: str) -> None:
    assert parse(raw.encode()) == json.loads(raw)


@pytest.mark.parametrize(
    ("raw", "line", "column"),
    [
        (b"", 1, 1),
        (b'{"a": 1,\n  b: 2}', 2, 3),
        (b"[1] 2", 1, 5),
        (b'["a\nb"]', 1, 4),
        (b"\xef\xbb\xbf{}", 1, 1),
        (b'{"a":\n "\xc3\xbc\xff"}', 2, 4),
        ('"\ud800"'.encode("utf-8", "surrogatepass"), 1, 2),
        ("{}".encode("utf-16"), 1, 1),
        (b"'a'", 1, 1),
        (b"[01]", 1, 3),
    ],
)
def test_what_is_not_json_is_told_with_line_and_column(raw: bytes, line: int, column: int) -> None:
    with pytest.raises(NotJsonError) as caught:
        parse(raw)
    assert (caught.value.line, caught.value.column) == (line, column)


def test_a_value_from_python_is_checked_too() -> None:
    value: Any = {1: "a", "t": (1,), "i": -(10**309), "n": float("nan"), "d": date(2030, 1, 1), "k": {None: object()}}
    assert [(flaw.pointer, flaw.detail) for flaw in check(value)] == [
        ("", "a name must be a string, not int"),
        ("/t", "tuple is not JSON"),
        ("/i", TOO_LARGE),
        ("/n", "NaN is not JSON"),
        ("/d", "date is not JSON"),
        ("/k", "a name must be a string, not NoneType"),
    ]
    with pytest.raises(ValueError, match="not JSON compliant"):
        dump(value["n"])


def test_a_hundred_thousand_levels_and_cycles_are_one_flaw() -> None:
    cycle: list[object] = []
    cycle.append(cycle)
    for value in (nested(100_000), cycle):
        assert [flaw.pointer for flaw in check(value)] == ["/0" * DEEPEST]


def test_a_cycle_that_branches_ends() -> None:
    cycle: dict[str, object] = {}
    cycle |= {"a": cycle, "b": cycle}
    assert len(check(cycle)) == MAX_FLAWS


class Colour(enum.Enum):
    RED = "red"


class Model(BaseModel):
    at: date
    colours: set[Colour]


@dataclasses.dataclass
class Point:
    x: float


class Broken(BaseModel):
    x: int

    @field_serializer("x")
    def _raise(self, _value: int) -> int:
        raise LookupError("no")


def cyclic() -> list[object]:
    value: list[object] = []
    value.append(value)
    return value


def test_a_result_is_written_as_a_web_framework_would() -> None:
    model, id_ = Model(at=date(2030, 1, 31), colours={Colour.RED}), UUID(int=7)
    result = {"a": (1, 2), 3: {4}, "m": model, "p": [Point(1.5), id_, b"ab", None, "ü"]}
    written = f'{{"at":"2030-01-31","colours":["red"]}},"p":[{{"x":1.5}},"{id_}","ab",null,"ü"]'
    assert result_to_json(result, 1000) == f'{{"a":[1,2],"3":[4],"m":{written}}}'


NOT_JSON = [
    *(object(), len, b"\xff", Broken(x=1), {("a", object()): 1}, cyclic(), nested(500), nested(65)),
    *(float("nan"), [float("-inf")], 2**1024, "\0", {"\ud800": 1}),
]


@pytest.mark.parametrize("result", NOT_JSON, ids=lambda result: type(result).__name__)
def test_a_result_that_is_not_json_is_refused(result: object) -> None:
    with pytest.raises(ResultNotJsonError, match="the result is not JSON") as caught:
        result_to_json(result, 1_000_000)
    assert caught.value.type == "result-not-json"
    assert clip(str(caught.value)) == str(caught.value)


def test_a_result_may_have_as_many_bytes_as_the_limit_says() -> None:
    assert result_to_json("ü" * 4, 10) == '"üüüü"'
    with pytest.raises(ResultTooLargeError, match="12 bytes of JSON, more than the limit of 10") as caught:
        result_to_json("ü" * 5, 10)
    assert (caught.value.type, caught.value.size, caught.value.limit) == ("result-too-large", 12, 10)


@given(st.text(), st.integers(100, 300))
@example("a\0b\udc80c", 100)
@settings(deadline=None)
def test_a_text_is_made_fit_to_store_and_a_long_one_keeps_its_head_and_its_tail(text: str, limit: int) -> None:
    whole = text.replace("\0", "\\u0000").encode(errors="backslashreplace").decode()
    assert clip(text, len(whole.encode())) == whole
    long = f"head{text}{'ü' * limit}{text}tail"
    clipped = clip(long, limit)
    assert f"… [cut: {len(long)} characters in all] …" in clipped
    assert (clipped[:4], clipped[-4:]) == ("head", "tail")
    assert limit - 12 <= len(clipped.encode()) <= limit
    assert len(clip(long, 10).encode()) <= 10  # less than the mark has


def _ten_times_over(times: int) -> list[object]:
    found: list[object] = ["ha"]
    for _ in range(times):
        found = [found] * 10
    return found


@pytest.mark.parametrize(
    "value",
    [(n for n in itertools.count()), _ten_times_over(30), [1] * 20_000_000, ["x" * 100_001], {"a": ("x" * 100_001,)}],
    ids=["a generator without an end", "few lists, many values", "long", "a long text", "a long text deep within"],
)
def test_a_result_that_is_huge_is_refused_before_it_is_converted(value: object) -> None:
    with pytest.raises(ResultTooLargeError, match="at least"):
        result_to_json(value, 100_000)


@given(JSON | st.tuples(JSON, JSON))
@settings(deadline=None)
def test_the_least_size_is_never_more_than_the_size(value: object) -> None:
    size = len(result_to_json(value, 1_000_000).encode())
    assert result_to_json(value, size)
    with pytest.raises(ResultTooLargeError):
        result_to_json(value, size - 1)
