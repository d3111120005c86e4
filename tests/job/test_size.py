import pytest

from jobtrail.job.size import parse_size


@pytest.mark.parametrize(
    ("text", "size"), [("0", 0), ("1048576", 1048576), ("512KiB", 524288), ("1MiB", 1048576), (" 2MiB ", 2097152)]
)
def test_a_number_is_bytes_unless_it_has_a_unit(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "-1", "1MB", "1 MiB", "1.5MiB", "1kib", "1GiB", "nan", "9" * 13])
def test_what_is_no_size_is_refused_with_the_forms_to_write(text: str) -> None:
    with pytest.raises(ValueError, match="is not a size: write bytes or 512KiB, 1MiB"):
        parse_size(text)
