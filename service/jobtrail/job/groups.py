"""Exception groups, as a TaskGroup raises them: what counts are the errors inside, the leaves."""

from collections.abc import Sequence
from typing import Final

from jobtrail.job.storable import clip, message_of

_LISTED: Final = 20
_LEAF_BYTES: Final = 500
"""Twenty of them fit into the message of an error; beyond that a number says how many there are."""


def leaves_of(error: BaseException, whole: tuple[type[BaseException], ...] = ()) -> Sequence[BaseException]:
    """The errors in a group, those of nested groups too, each once and in order; of any other error itself.

    A group that is of one of the types `whole` is not looked into.
    """
    leaves: list[BaseException] = []
    seen: set[int] = set()
    todo = [error]
    while todo:  # not by recursion: groups nest to any depth
        each = todo.pop()
        if id(each) in seen:
            continue
        seen.add(id(each))
        if isinstance(each, BaseExceptionGroup) and not isinstance(each, whole):
            todo.extend(reversed(each.exceptions))
        else:
            leaves.append(each)
    return leaves or [error]


def only_leaf_of(error: BaseException) -> BaseException:
    """The one error in a group of one, else the error itself."""
    leaves = leaves_of(error)
    return leaves[0] if len(leaves) == 1 else error


def listed(group: BaseException) -> str:
    """The group's own message and, behind it, type and message of its leaves, as many as are read. Never raises."""
    leaves = leaves_of(group)
    told = [clip(f"{type(each).__qualname__}: {message_of(each)}", _LEAF_BYTES) for each in leaves[:_LISTED]]
    if len(leaves) > _LISTED:
        told.append(f"and {len(leaves) - _LISTED} more")
    return f"{clip(message_of(group), _LEAF_BYTES)}: {'; '.join(told)}"
