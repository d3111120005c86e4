"""Limits of a task: how many jobs of a key run at once, and what begins of a key within a time, over all nodes."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from jobtrail.errors import DeclarationError, FieldError, InvalidArgumentsError, InvalidInputError
from jobtrail.ranges import MAX_LANE, MAX_LIMITS, MAX_NUMBER, MAX_PENDING, MAX_PER, MIN_PER
from jobtrail.task.template import filled, misfit, names_in, require_arguments


@dataclass(frozen=True, slots=True)
class Limit:
    """At most `number` jobs of a key run at once, over all nodes: `Limit("tenant:{tenant}", 3)`.

    With `max_pending` a submit is refused while so many of the key are pending.
    Raises DeclarationError, whose message names the fix.
    """

    key: str
    number: int
    max_pending: int | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        names_in(self.key)
        if type(self.number) is not int or not 1 <= self.number <= MAX_NUMBER:
            raise DeclarationError(
                f"Limit({self.key!r}, {self.number!r}): write a whole number from 1 on; to let no job of a key start, "
                "override its number with 0 when the time has come"
            )
        _check_max_pending(self)

    @property
    def names(self) -> Sequence[str]:
        """The arguments that it is made of."""
        return names_in(self.key)

    @property
    def declared(self) -> dict[str, Any]:
        """What a node says of it when it claims."""
        return {"number": self.number}

    def terms(self, _value: Callable[[str], Any]) -> dict[str, Any]:
        """What a job keeps of it."""
        return {"template": self.key, **self.declared}


@dataclass(frozen=True, slots=True)
class Rate:
    """What begins of a key within any `per` seconds costs at most `number`, over all nodes, to a hundredth of `per`.

    `cost` of one attempt is a number, or one argument as a template: `Rate("openai:{tenant}", 90_000, per=60,
    cost="{tokens}")`. `max_pending` as of a Limit. Raises DeclarationError, whose message names the fix.
    """

    key: str
    number: float
    per: float = 1.0
    cost: float | str = 1
    max_pending: int | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        names_in(self.key)
        if not _is_number(self.number) or not 0 < self.number <= MAX_NUMBER:
            raise self._refusal("number", self.number, "write a number above 0")
        if not _is_number(self.per) or not MIN_PER <= self.per <= MAX_PER:
            raise self._refusal("per", self.per, f"write seconds from {MIN_PER:g} to {MAX_PER}")
        if isinstance(self.cost, str):
            if len(names_in(self.cost)) != 1 or self.cost != f"{{{names_in(self.cost)[0]}}}":
                raise self._refusal("cost", self.cost, 'write a number, or one argument alone, such as "{tokens}"')
        elif not _is_number(self.cost) or not 0 <= self.cost <= self.number:
            raise self._refusal("cost", self.cost, "write a number from 0 to that of the rate, or an argument")
        _check_max_pending(self)

    @property
    def names(self) -> Sequence[str]:
        """The arguments that it is made of."""
        return [*names_in(self.key), *(names_in(self.cost) if isinstance(self.cost, str) else ())]

    @property
    def declared(self) -> dict[str, Any]:
        """What a node says of it when it claims."""
        return {"number": self.number, "per": self.per}

    def terms(self, value: Callable[[str], Any]) -> dict[str, Any]:
        """What a job keeps of it. Raises InvalidArgumentsError for a cost that is no number or too high."""
        cost: Any = self.cost
        if isinstance(cost, str):
            (name,) = names_in(cost)
            cost = value(name)
            if not _is_number(cost) or not 0 <= cost <= self.number:
                raise misfit(name, f"it is the cost for the rate {self.key!r}: a number from 0 to {self.number:g}")
        return {"template": self.key, **self.declared, "cost": cost, "is_estimate": self.is_estimate}

    @property
    def is_estimate(self) -> bool:
        """Whether `JobContext.charge` may correct the cost."""
        return isinstance(self.cost, str)

    def _refusal(self, name: str, value: object, advice: str) -> DeclarationError:
        return DeclarationError(f"Rate({self.key!r}), {name}={value!r}: {advice}")


@dataclass(frozen=True, slots=True)
class Limited:
    """The keys of a job, the terms of each, and how many jobs of a key may be pending, where that is limited."""

    keys: Sequence[str]
    terms: Sequence[Mapping[str, Any]]
    max_pending: Mapping[str, int]


def checked(limits: Sequence[Limit | Rate], parameters: Mapping[str, object], place: str) -> Sequence[Limit | Rate]:
    """Raises DeclarationError for limits that do not go with each other or with the parameters of the task."""
    if len(limits) > MAX_LIMITS:
        raise DeclarationError(f"task {place}: {len(limits)} limits; a task has at most {MAX_LIMITS}")
    keys = [each.key for each in limits]
    for each in limits:
        require_arguments(each.names, parameters, f"task {place}, {each!r}")
        if keys.count(each.key) > 1:
            raise DeclarationError(
                f"task {place}: two limits have the key {each.key!r}; name one, or give one of them another key"
            )
    return tuple(limits)


def limited(limits: Sequence[Limit | Rate], value: Callable[[str], Any]) -> Limited:
    """The keys and terms of a job; `value` gives an argument as JSON. Raises InvalidArgumentsError.

    Where two limits come to the same key, the smaller number counts.
    """
    found: dict[str, Mapping[str, Any]] = {}
    pending: dict[str, int] = {}
    for each in limits:
        key, terms = filled(each.key, value), each.terms(value)
        if each.max_pending is not None:
            pending[key] = min(each.max_pending, pending.get(key, MAX_PENDING))
        other = found.get(key)
        if other is not None and ("per" in other) != ("per" in terms):
            flaw = f"a limit and a rate of the task both come to the key {key!r}: give the templates different texts"
            raise InvalidArgumentsError([FieldError("", flaw)])
        if other is None or terms["number"] < other["number"]:
            found[key] = terms
    keys = sorted(found)  # so jobs of the same keys are of one lane
    if _is_too_long(keys):
        raise InvalidArgumentsError([FieldError("", f"the keys of its limits are longer than {MAX_LANE} bytes")])
    return Limited(keys, [found[key] for key in keys], pending)


def with_key(lane: Sequence[str] | None, key: str, pointer: str) -> Sequence[str]:
    """The keys and one more, without terms, so it lets one job run; terms go by the places of their keys.

    Raises InvalidInputError with the pointer.
    """
    longer = [*(lane or ()), key]
    if _is_too_long(longer):
        flaw = f"with the keys of the limits of the task it is longer than {MAX_LANE} bytes"
        raise InvalidInputError([FieldError(pointer, flaw)])
    return longer


def _is_too_long(lane: Sequence[str]) -> bool:
    """For an index that has all of them together."""
    return sum(len(key.encode()) + 3 for key in lane) > MAX_LANE


def _check_max_pending(limit: Limit | Rate) -> None:
    number = limit.max_pending
    if number is not None and (type(number) is not int or not 1 <= number <= MAX_PENDING):
        raise DeclarationError(
            f"{type(limit).__name__}({limit.key!r}), max_pending={number!r}: write a whole number from 1 to "
            f"{MAX_PENDING}, or leave it out"
        )


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < float("inf")
