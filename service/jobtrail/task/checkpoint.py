"""The value of a checkpoint as JSON."""

from jobtrail.errors import CheckpointError, InvalidInputError, ResultTooLargeError
from jobtrail.ranges import MAX_CHECKPOINT
from jobtrail.task.storable import check, dump, refuse_huge


def checkpoint_to_json(value: object) -> str:
    """JSON text of a checkpoint. Nothing is converted: the next attempt gets what this one gave.

    Raises CheckpointError for what is not JSON, or more than 64 KiB of it.
    """
    try:
        refuse_huge(value, MAX_CHECKPOINT)
    except ResultTooLargeError as error:
        raise _too_large(f"at least {error.size}") from None
    if flaws := check(value):
        raise CheckpointError(
            f"the checkpoint is not JSON: {InvalidInputError(flaws[:3])}; give it None, booleans, numbers, texts, and "
            "lists and dicts of these: a tuple as list(…), a date as its isoformat()"
        )
    text = dump(value)
    if (size := len(text.encode())) > MAX_CHECKPOINT:
        raise _too_large(str(size))
    return text


def _too_large(size: str) -> CheckpointError:
    return CheckpointError(
        f"the checkpoint is {size} bytes of JSON, more than the limit of {MAX_CHECKPOINT}: give it the place where "
        "the work goes on, and store the work itself elsewhere"
    )
