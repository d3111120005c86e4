"""One trace over processes: what accepts a job, what runs it, and the process of its own that a task has."""

import json
from pathlib import Path
from typing import Any

import pytest

from support.served import CHECKOUT, Served, Working
from support.until import until
from support.world import Place

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
CALLER = "00f067aa0ba902b7"

REQUEST = [("POST /v1/jobs", None), ("send default", 0), ("process default", 1), ("work", 2)]
RETRY = [("process default", 1), ("work", 4)]


@pytest.mark.parametrize(("task", "chain"), [("flaky", REQUEST + RETRY), ("work_in_process", REQUEST)])
async def test_a_trace_goes_from_process_to_process(
    folder: Path, place: Place, task: str, chain: list[tuple[str, int | None]]
) -> None:
    """`chain`: each span in the order of their begins, with the place of the one above it."""
    written = folder / "spans"
    written.touch()
    settings = {**CHECKOUT, "JOBTRAIL_TASKS": "support.exporting", "SPANS": f"{written}"}

    async def all_of_them() -> list[dict[str, Any]] | None:
        *whole, _ = written.read_text().split("\n")
        found = [json.loads(line) for line in whole]
        ours = [each for each in found if each["context"]["trace_id"] == f"0x{TRACE}"]
        spans = [each for each in ours if not each["name"].startswith("fastapi.")]
        return spans if len(spans) >= len(chain) else None

    async with (
        Served.start(folder, place.url.libpq, JOBTRAIL_SLOTS="0", **settings) as served,
        Working.start(folder, place.url.libpq, JOBTRAIL_PROCESSES="1", **settings),
    ):
        sent = {"traceparent": f"00-{TRACE}-{CALLER}-01"}
        answer = await served.client.post("/v1/jobs", json={"task": task}, headers=sent)
        assert answer.headers["X-Trace-Id"] == TRACE
        spans = await until(all_of_them)
        await served.reached(answer.json()["id"], "succeeded")

    spans.sort(key=lambda span: str(span["start_time"]))
    ids = [f"0x{CALLER}", *(each["context"]["span_id"] for each in spans)]
    assert [(each["name"], each["parent_id"]) for each in spans] == [
        (name, ids[0 if above is None else above + 1]) for name, above in chain
    ]
