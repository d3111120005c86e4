import time
from concurrent.futures import ThreadPoolExecutor
from uuid import RFC_4122

import pytest

from jobtrail.ids import new_job_id, new_trace_id, parse_traceparent

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = "00f067aa0ba902b7"


def test_an_id_is_a_uuid_of_version_7_that_begins_with_the_milliseconds_of_its_birth() -> None:
    before = time.time_ns() // 1_000_000
    job_id = new_job_id()
    assert (job_id.version, job_id.variant) == (7, RFC_4122)
    # a millisecond that is full pushes the sequence a little ahead of the clock
    assert before <= job_id.int >> 80 <= time.time_ns() // 1_000_000 + 1


def test_ids_of_several_threads_differ_and_rise_in_each() -> None:
    with ThreadPoolExecutor(4) as threads:
        lists = list(threads.map(lambda _: [new_job_id() for _ in range(20_000)], range(4)))
    assert len({job_id for ids in lists for job_id in ids}) == 80_000
    assert [sorted(ids) for ids in lists] == lists


@pytest.mark.parametrize(
    "header",
    [
        f"00-{TRACE}-{PARENT}-01",
        f"00-{TRACE}-{PARENT}-00",
        f"00-{TRACE}-{PARENT}-ff",
        f"01-{TRACE}-{PARENT}-01",
        f"cc-{TRACE}-{PARENT}-01-what-the-future-brings",
        f"fe-{TRACE}-{PARENT}-09-",
    ],
)
def test_the_trace_id_is_taken_from_a_valid_header_also_of_a_version_to_come(header: str) -> None:
    assert parse_traceparent(header) == (TRACE, f"{PARENT}-{header.split('-')[3]}")


@pytest.mark.parametrize("header", [f" 00-{TRACE}-{PARENT}-01", f"\t 00-{TRACE}-{PARENT}-01 \t"])
def test_blanks_around_a_header_are_no_part_of_it(header: str) -> None:
    assert parse_traceparent(header) == (TRACE, f"{PARENT}-01")


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        TRACE,
        f"ff-{TRACE}-{PARENT}-01",
        f"00-{'0' * 32}-{PARENT}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE.upper()}-{PARENT}-01",
        f"00-{TRACE}-{PARENT.upper()}-01",
        f"0A-{TRACE}-{PARENT}-01",
        f"00-{TRACE}-{PARENT}-01-more",
        f"00-{TRACE}-{PARENT}-01-",
        f"cc-{TRACE}-{PARENT}-01more",
        f"cc-{TRACE}-{PARENT}-01.more",
        f"00-{TRACE}-{PARENT}-1",
        f"00-{TRACE[:-1]}-{PARENT}-01",
        f"00-{TRACE}-{PARENT}",
        f"00-{TRACE}-{PARENT}-01\n",
        f"\xa000-{TRACE}-{PARENT}-01",
        f"00-{TRACE} -{PARENT}-01",
        f"00-{TRACE}-{PARENT}-01,00-{TRACE}-{PARENT}-01",
        f"00_{TRACE}_{PARENT}_01",
        f"00-{TRACE[:-1]}g-{PARENT}-01",
        f"00-{TRACE[:-1]}٣-{PARENT}-01",
    ],
)
def test_an_invalid_header_is_ignored(header: str | None) -> None:
    assert parse_traceparent(header) is None


def test_a_new_trace_id_is_one_that_others_accept_and_rises_with_time() -> None:
    traces = [new_trace_id() for _ in range(1000)]
    assert [parse_traceparent(f"00-{trace}-{PARENT}-01") for trace in traces] == [
        (trace, f"{PARENT}-01") for trace in traces
    ]
    assert sorted(set(traces)) == traces
