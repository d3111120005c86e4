import json
import re
from collections.abc import Mapping
from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import HttpUrl

from jobtrail.errors import InvalidArgumentsError
from jobtrail.task.storable import MAX_FLAWS
from support import shapes
from support.names import named
from support.shapes import ID, NOW, Animal, Cat, Colour, Tuples, signature


def flaws_of(source: str, args: Mapping[str, object]) -> list[tuple[str, str]]:
    with pytest.raises(InvalidArgumentsError) as caught:
        signature(source).check(args)
    return [(flaw.pointer, flaw.detail) for flaw in caught.value.flaws]


SURVIVORS: list[tuple[str, object, object]] = [
    ("datetime", NOW, "2030-01-31T12:30:00.000005Z"),
    ("timedelta", timedelta(days=-1, microseconds=1), "-PT23H59M59.999999S"),
    ("UUID", ID, str(ID)),
    ("Decimal", Decimal("1.10"), "1.10"),
    ("Path", Path("/a"), "/a"),
    ("HttpUrl", HttpUrl("http://a/"), "http://a/"),
    ("bytes", b"ab", "ab"),
    ("complex", 1 + 2j, "1+2j"),
    ("Colour", Colour.RED, "red"),
    ("Literal['a', 1, None, True]", None, None),
    ("Literal[Word.A]", shapes.Word.A, "a"),
    ("ByName", shapes.Named.A, "A"),
    ("list[BySaid | dict[str, BySaid]]", [Tuples.A], ["A"]),
    ("dict[Colour, int]", {Colour.RED: 1}, {"red": 1}),
    ("Default", shapes.Default(default=Colour.RED), {"default": "red", "type": "t", "metadata": 1}),
    ("SerializeAsAny[Animal]", Animal(name="a"), {"name": "a", "born": None}),
    ("int | date", date(2030, 1, 31), "2030-01-31"),
    ("date | None", None, None),
    ("Sequence[int]", [1], [1]),
    ("Mapping[int, str]", {1: "a"}, {"1": "a"}),
    ("set[UUID]", {ID}, [str(ID)]),
    ("tuple[int, date]", (1, date(2030, 1, 31)), [1, "2030-01-31"]),
    ("Place", shapes.Place(1, date(2030, 1, 31)), [1, "2030-01-31"]),
    ("Animal", Animal(name="a", born=date(2030, 1, 31)), {"name": "a", "born": "2030-01-31"}),
    ("Animal | Cat", Cat(name="a"), {"name": "a", "born": None, "lives": 9}),
    (
        "Annotated[Bird | Fish, Field(discriminator='kind')]",
        shapes.Fish(kind="fish", fins=3),
        {"kind": "fish", "fins": 3},
    ),
    ("Strict", shapes.Strict(on=date(2030, 1, 31), n=1), {"on": "2030-01-31", "n": 1}),
    ("Aliased", shapes.Aliased(userId=1), {"userId": 1}),
    ("Computed", shapes.Computed(side=2), {"side": 2}),
    ("Tree", shapes.Tree(children=[shapes.Tree()]), {"children": [{"children": []}]}),
    ("Stay", shapes.Stay(NOW), {"at": "2030-01-31T12:30:00.000005Z", "nights": 1}),
    ("Any", {"a": [1.5, None, "ü\U0001f600"]}, {"a": [1.5, None, "ü\U0001f600"]}),
    ("int | str | float | object", "1", "1"),
]


@pytest.mark.parametrize(("annotation", "value", "stored"), SURVIVORS, ids=lambda part: named(part)[:30])
def test_a_value_comes_back_from_json_as_it_went(annotation: str, value: object, stored: object) -> None:
    shape = signature(f"x: {annotation}")
    assert shape.dump(value) == shape.dump(x=value) == {"x": stored}
    args = json.loads(json.dumps({"x": stored}))
    shape.check(args)
    assert shape.bind(args) == {"x": value}


def test_a_value_is_read_from_what_it_is_written_as() -> None:
    shape = signature("a: Animal, on: date, texts: Json[list[int]]")
    assert shape.dump({"name": "a"}, "2030-01-31", "[1]") == {
        "a": {"name": "a", "born": None},
        "on": "2030-01-31",
        "texts": "[1]",
    }
    assert shape.bind({"texts": "[1]"} | {"a": {"name": "a"}, "on": "2030-01-31"})["texts"] == [1]


@pytest.mark.parametrize(
    ("annotation", "sent"),
    [
        ("int", "5"),
        ("Animal", {"name": "a"}),
        ("HttpUrl", "http://a"),
        ("Annotated[int, AfterValidator(lambda n: 2 * n)]", 1),  # it would be 4 in the task
        ("Annotated[int, AfterValidator(lambda n: min(n + 1, 2))]", 0),  # it would be 2
        ("Annotated[list, BeforeValidator(lambda text: text.split())]", "a b"),
        ("Hiding", {"n": 2}),
        ("Nameless", 1),  # it has no __eq__, and is trusted
        # what no JSON shows is made anew
        ("ReadBySku", {"SKU": "a", "id": str(UUID(int=1))}),
        ("Private", {"n": 1}),
    ],
)
def test_what_is_the_same_each_time_it_is_read_is_kept_as_it_was_sent(annotation: str, sent: object) -> None:
    assert signature(f"x: {annotation}").settle({"x": sent}) == {"x": sent}


@pytest.mark.parametrize(
    ("annotation", "sent", "detail"),
    [
        ("Annotated[str, BeforeValidator(lambda _: uuid4().hex)]", "a", "/x: a part of it is made anew each time"),
        ("ReadBySku", {"SKU": "a"}, "alias= in place of validation_alias="),
        ("list[int]", ["a"], "/x/0: Input should be a valid integer"),
    ],
)
def test_what_is_another_each_time_and_cannot_be_kept_is_refused(annotation: str, sent: object, detail: str) -> None:
    with pytest.raises(InvalidArgumentsError, match=detail):
        signature(f"x: {annotation}").settle({"x": sent})


def test_names_that_pydantic_or_python_keep_for_themselves_are_free() -> None:
    shape = signature("self, cls, json, model_config, args: int, kwargs: int = 0, *, schema: str = 'a'")
    args = {"self": 1, "cls": 2, "json": 3, "model_config": 4, "args": 5, "schema": "b"}
    # what is left out stays out
    assert shape.dump(1, 2, 3, 4, 5, schema="b") == shape.dump(**args) == shape.bind(args) == args


UNFIT: list[tuple[str, dict[str, object], str]] = [
    ("n: int", {}, "/n this argument is missing"),
    ("", {"n": 1}, "/n there is no such argument; the task takes no arguments"),
    ("a, b=1", {"a": 1, "c/~": 1}, "/c~1~0 there is no such argument; the task takes a, b"),
    ("n: int", {"n": "x"}, "/n Input should be a valid integer, unable to parse string as an integer"),
    ("n: int", {"n": float("nan")}, "/n cannot be read: ValueError: Out of range"),
    ("n: Annotated[int, Field(gt=0)]", {"n": 0}, "/n Input should be greater than 0"),
    ("a: Animal", {"a": []}, "/a Input should be an object"),
    ("a: Aliased", {"a": {}}, "/a/userId Field required"),
    ("a: Strict", {"a": {"on": "2030-01-31", "n": "5"}}, "/a/n Input should be a valid integer"),
    ("a: Computed", {"a": {"side": 1, "b/c": 2}}, "/a/b~1c Extra inputs are not permitted"),
    ("a: Broken", {"a": {"n": 1}}, "/a cannot be read: LookupError: out of reach"),
    ("a: dict[str, int]", {"a": {"~/": "x"}}, "/a/~0~1 Input should be a valid integer"),
    ("a: dict[int, int]", {"a": {"x": 1}}, "/a/x Input should be a valid integer"),
    ("a: tuple[int, int]", {"a": [1]}, "/a/1 Field required"),
    ("a: list[int | date]", {"a": [1, "x"]}, "/a/1 Input should be a valid integer|/a/1 Input should be a valid date"),
    ("a: Annotated[Bird | Fish, Field(discriminator='kind')]", {"a": {"kind": "fish"}}, "/a/fins Field required"),
    (
        "a: list[Animal], n: int, m: int = 1",
        {"a": [{"name": 1}, {"name": "b"}, {}], "m": "x", "z": 1},
        (
            "/n this argument is missing|/z there is no such argument; the task takes a, n, m|"
            "/a/0/name Input should be a valid string|/a/2/name Field required|/m Input should be a valid integer"
        ),
    ),
]


@pytest.mark.parametrize(("source", "args", "flaws"), UNFIT)
def test_args_that_do_not_fit_are_told_all_at_once(source: str, args: dict[str, object], flaws: str) -> None:
    found, expected = flaws_of(source, args), flaws.split("|")
    assert len(found) == len(expected)
    assert all(
        f"{pointer} {detail}".startswith(start) for (pointer, detail), start in zip(found, expected, strict=True)
    )


@given(st.frozensets(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=3)))
@settings(deadline=None)
def test_a_set_is_written_in_one_order(some: frozenset[str]) -> None:
    shape = signature(
        "a: set[str], b: list[frozenset[str]], c: dict[str, set[str]], d: tuple[int, set[str]], e: Tagged"
    )
    written, tags = sorted(some, key=json.dumps), set(some)
    assert shape.dump(tags, [some], {"k": tags}, (1, tags), shapes.Tagged(tags=tags)) == {
        "a": written,
        "b": [written],
        "c": {"k": written},
        "d": [1, written],
        "e": {"tags": written},
    }


@pytest.mark.parametrize("count", [200, 20_000])
def test_no_more_flaws_are_told_than_can_be_read(count: int) -> None:
    assert len(flaws_of("a: list[int]", {"a": ["x"] * count})) == (MAX_FLAWS if count == 200 else 1)
    assert len(flaws_of("", {str(n): n for n in range(count)})) == MAX_FLAWS


@pytest.mark.parametrize(
    ("source", "value", "detail"),
    [
        ("x: int", "a", "valid integer"),
        ("x: int", 10**400, "beyond the range of a double"),
        ("x: float", float("inf"), "beyond the range of a double"),
        ("x: str", "\0", r"U\+0000"),
        ("x: list[str]", ["\ud800"], "lone surrogate"),
        ("x: bytes", b"\xff", "cannot be written as JSON"),
        ("x: Animal", Cat(name="a"), "would come back as Animal"),
        ("x: Animal", Animal.model_construct(name=1), "cannot be written as JSON"),
        ("x: Hiding", shapes.Hiding(n=2), r"would come back as Hiding\(n=1\)"),
        ("x: re.Pattern", re.compile("a", re.IGNORECASE), "would come back as re.compile"),
        ("x: date | str", date(2030, 1, 31), "would come back as '2030-01-31'"),
        ("x: Incomparable", 1, "would come back as"),
        ("x", (1, 2), r"would come back as \[1, 2\]"),
        ("x", {1: 2}, "would come back as {'1': 2}"),
        ("x", float("nan"), "would come back as None"),
        ("x", date(2030, 1, 31), "would come back as '2030-01-31'"),
        ("x", object(), "cannot be written as JSON"),
        ("x: Broken", {"n": 1}, "cannot be written as JSON: LookupError: out of reach"),
        ("x: SerializeAsAny[Animal]", Cat(name="a"), "would come back as Animal"),
    ],
    ids=lambda part: named(part)[:30],
)
def test_a_value_that_would_not_come_back_is_refused_when_it_is_given(source: str, value: object, detail: str) -> None:
    with pytest.raises(InvalidArgumentsError, match=detail) as caught:
        signature(source).dump(value)
    assert all(flaw.pointer.startswith("/x") for flaw in caught.value.flaws)


def test_a_call_that_python_would_refuse_is_refused_with_all_that_is_wrong() -> None:
    with pytest.raises(InvalidArgumentsError) as caught:
        signature("a, b: int = 1, *, c").dump(1, "x", 3, a=4, z=5)
    assert [f"{flaw.pointer} {flaw.detail}".partition(",")[0] for flaw in caught.value.flaws] == [
        "/a given twice: by position and by name",
        " 3 arguments by position",
        "/c this argument is missing",
        "/z there is no such argument; the task takes a",
        "/b Input should be a valid integer",
    ]


def test_the_json_schema_says_what_a_caller_may_send() -> None:
    shape = signature(
        "a: Animal, others: list[Animal] = [], n: Annotated[int, Field(gt=0, description='how many')] = 1,"
        " on: date = date(2030, 1, 31), f: float = float('inf'), b: bytes = b'\\xff', x=None"
    )
    animal = shape.json_schema.pop("$defs")["Animal"]
    assert animal["required"] == ["name"]
    assert shape.json_schema == {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "type": "object",
        "properties": {
            "a": {"$ref": "#/$defs/Animal"},
            "others": {"type": "array", "items": {"$ref": "#/$defs/Animal"}, "default": []},
            "n": {"type": "integer", "exclusiveMinimum": 0, "description": "how many", "default": 1},
            "on": {"type": "string", "format": "date", "default": "2030-01-31"},
            "f": {"type": "number"},
            "b": {"type": "string", "format": "binary"},
            "x": {"default": None},
        },
        "required": ["a"],
        "additionalProperties": False,
    }


def test_a_default_inside_a_model_that_json_cannot_say_is_left_out() -> None:
    assert signature("x: Odd").json_schema["$defs"]["Odd"]["properties"] == {"x": {"title": "X"}}
    assert signature("").json_schema["properties"] == signature("").bind({}) == {}


def test_the_context_is_no_argument() -> None:
    for source in (
        *("context: JobContext, n: int", "context: 'JobContext', n: int", "context: JobContext, /, n: int"),
        "c: Annotated[JobContext, 'mine'], *, n: int",
    ):
        assert (signature(source).takes_context, list(signature(source).parameters)) == (True, ["n"])
    assert (signature("context").takes_context, list(signature("context").parameters)) == (False, ["context"])
