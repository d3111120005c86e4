import time
from concurrent.futures import ThreadPoolExecutor
from uuid import RFC_4122

from jobtrail.job.ids import _assemble, _Sequence, new_job_id


def test_an_id_is_a_uuid_of_version_7() -> None:
    job_id = new_job_id()
    assert (job_id.version, job_id.variant) == (7, RFC_4122)


def test_an_id_begins_with_the_milliseconds_of_its_birth() -> None:
    before = time.time_ns() // 1_000_000
    born = new_job_id().int >> 80
    # ids made before in the same process may have pushed the sequence a little ahead of the clock
    assert before <= born <= time.time_ns() // 1_000_000 + 1


def test_the_parts_lie_where_the_specification_puts_them() -> None:
    # the example of RFC 9562, appendix A.6: its rand_a and rand_b, read as a counter and a tail
    counter = 0xCC3 << 30 | 0x18C4DC0C0C07398F >> 32
    assert str(_assemble(0x017F22E279B0, counter, 0x0C07398F)) == "017f22e2-79b0-7cc3-98c4-dc0c0c07398f"


def test_a_hundred_thousand_ids_differ_and_rise() -> None:
    ids = [new_job_id() for _ in range(100_000)]
    assert len(set(ids)) == 100_000
    assert sorted(ids) == ids


def test_ids_of_several_threads_differ_and_rise_in_each() -> None:
    with ThreadPoolExecutor(4) as threads:
        lists = list(threads.map(lambda _: [new_job_id() for _ in range(5000)], range(4)))
    assert len({job_id for ids in lists for job_id in ids}) == 20_000
    assert [sorted(ids) for ids in lists] == lists


def test_a_clock_that_stands_still_or_goes_back_does_not_turn_the_order() -> None:
    sequence = _Sequence()
    pairs = [sequence.advance(now) for now in (1000, 1000, 999, 5, 1001, 1001)]
    assert sorted(set(pairs)) == pairs
    assert [milliseconds for milliseconds, _ in pairs] == [1000, 1000, 1000, 1000, 1001, 1001]


def test_a_full_counter_moves_on_to_the_next_millisecond() -> None:
    sequence = _Sequence()
    first = sequence.advance(1000)
    sequence._counter = (1 << 42) - 1
    following = sequence.advance(1000)
    assert following[0] == 1001
    assert following > first
    assert following[1] < 1 << 41


def test_a_fresh_millisecond_starts_in_the_lower_half_of_the_counter() -> None:
    sequence = _Sequence()
    assert all(sequence.advance(now)[1] < 1 << 41 for now in range(1, 1000))
