"""Limits at their declaration, and filled in with arguments."""

from collections.abc import Callable
from typing import Any

import pytest

from jobtrail import Limit, Rate, task
from jobtrail.errors import DeclarationError, InvalidArgumentsError
from jobtrail.task.catalog import Catalog
from jobtrail.task.limit import limited


async def function(tenant: str, tokens: int = 5, deep: list[int] | None = None, *, ok: bool = True) -> None: ...


REFUSED: list[tuple[Callable[[], Any], str]] = [
    (lambda: Limit("", 3), "a key is a text of 1 to 200 characters"),
    (lambda: Limit("x" * 201, 3), "1 to 200 characters"),
    (lambda: Limit(3, 3), "1 to 200 characters"),  # type: ignore[arg-type]
    (lambda: Limit("{tenant", 3), "write {{ and }} for braces that are meant"),
    (lambda: Limit("{}", 3), "{} is not the name of an argument"),
    (lambda: Limit("{tenant.name}", 3), "take the argument as a whole"),
    (lambda: Limit("{tenant!r}", 3), "take the argument as a whole"),
    (lambda: Limit("{tenant:>3}", 3), "take the argument as a whole"),
    (lambda: Limit("all", 0), "override its number with 0"),
    (lambda: Limit("all", 2.5), "write a whole number"),  # type: ignore[arg-type]
    (lambda: Limit("all", True), "write a whole number"),
    (lambda: Rate("all", 0), "number=0: write a number above 0"),
    (lambda: Rate("all", float("nan")), "write a number above 0"),
    (lambda: Rate("all", 5, per=0), "per=0: write seconds from 0.1 to 604800"),
    (lambda: Rate("all", 5, cost=6), "cost=6: write a number from 0 to that of the rate"),
    (lambda: Rate("all", 5, cost="many"), "one argument alone"),
    (lambda: Rate("all", 5, cost="{tokens}0"), "one argument alone"),
    (lambda: task(limits=[Limit("{tenent}", 3)])(function), "names no argument of the task; there are: tenant, tokens"),
    (lambda: task(limits=[Rate("all", 3, cost="{token}")])(function), "{token} names no argument"),
    (lambda: task(limits=[Limit("all", 3), Rate("all", 3)])(function), "two limits have the key 'all'"),
    (lambda: task(limits=[Limit(f"k{n}", 3) for n in range(21)])(function), "a task has at most 20"),
    (lambda: task(limits=["all"])(function), "a list of Limit"),  # type: ignore[list-item]
    (lambda: Catalog([task(limits=[Limit("all", 3)])(function), task(name="b", limits=[Limit("all", 4)])(function)]),
     "has other numbers than the limit of that key of another task"),
]  # fmt: skip


@pytest.mark.parametrize(("declare", "told"), REFUSED)
def test_what_cannot_be_meant_is_refused_at_declaration(declare: Callable[[], Any], told: str) -> None:
    with pytest.raises(DeclarationError) as error:
        declare()
    assert told in str(error.value)


@pytest.mark.parametrize(
    ("template", "args", "key"),
    [
        ("{{{tenant}}}", {"tenant": "a b"}, "{a b}"),
        ("{tokens}/{ok}", {"tenant": "a"}, "5/true"),
        ("{tokens}", {"tokens": "7"}, "7"),
        ("{tokens}", {"tokens": 7.0}, "7"),
        ("{deep}", {}, "null"),
    ],
)
def test_a_key_is_filled_with_what_the_task_sees(template: str, args: dict[str, Any], key: str) -> None:
    declared = task(limits=[Limit(template, 3)])(function)
    found = limited(declared.limits, lambda name: declared.signature.json_of(args, name))
    assert found.keys == [key]
    assert found.terms == [{"template": template, "number": 3}]


@pytest.mark.parametrize(
    ("template", "args", "told"),
    [
        ("{tenant}", {"tenant": "x" * 201}, "/tenant: the key '{tenant}' comes to 201 characters; it has 1 to 200"),
        ("{tenant}", {"tenant": ""}, "comes to 0 characters"),
        ("{deep}", {"deep": [1]}, "/deep: it is part of a key: a text, a number"),
    ],
)
def test_a_key_that_cannot_be_is_refused_at_submit(template: str, args: dict[str, Any], told: str) -> None:
    declared = task(limits=[Limit(template, 3)])(function)
    with pytest.raises(InvalidArgumentsError) as error:
        limited(declared.limits, lambda name: declared.signature.json_of(args, name))
    assert told in str(error.value)


def test_of_two_limits_with_one_key_the_smaller_counts() -> None:
    limits = [Limit("user:{a}", 3), Limit("user:{b}", 2), Limit("all", 5)]
    assert limited(limits, lambda _: "x").keys == ["all", "user:x"]
    assert [each["number"] for each in limited(limits, lambda _: "x").terms] == [5, 2]
    with pytest.raises(InvalidArgumentsError, match="a limit and a rate of the task both come to the key 'user:x'"):
        limited([Limit("user:{a}", 3), Rate("user:{b}", 3)], lambda _: "x")
    with pytest.raises(InvalidArgumentsError, match="longer than 2000 bytes"):
        limited([Limit(f"{n}" + "{a}", 3) for n in range(11)], lambda _: "x" * 190)
