"""Batches over HTTP: stored whole, counted, done; of others there are none for who sees only its own."""

from datetime import datetime

from support.service import Service
from support.until import until

BODY = {
    "jobs": [{"task": "noop", "args": {"n": n}} for n in range(3)],
    "on_done": {"task": "noop", "args": {"n": 9}, "tags": ["last"]},
}


async def test_a_batch_is_answered_counted_and_done(running: Service) -> None:
    answer = await running.client.post("/v1/batches", json=BODY)
    batch = answer.json()
    assert (answer.status_code, answer.headers["Retry-After"], batch["total"]) == (202, "1", 3)
    assert answer.headers["Location"].endswith(f"/v1/batches/{batch['id']}")

    async def done() -> dict[str, object] | None:
        found = await running.client.get(answer.headers["Location"])
        assert ("Retry-After" in found.headers) is (found.json()["done_at"] is None)
        return found.json() if found.json()["done_at"] else None

    found = await until(done)
    assert (found["succeeded"], found["progress"], found["pending"]) == (3, 1.0, 0)
    last = await running.ended(str(found["on_done"]))
    assert (last["result"], last["tags"], last["batch_id"]) == ({"ok": 9}, ["last"], None)
    listed = (await running.client.get("/v1/jobs", params={"batch_id": batch["id"]})).json()["items"]
    assert {each["batch_id"] for each in listed} == {batch["id"]}
    assert len(listed) == 3
    assert all(
        datetime.fromisoformat(each["finished_at"]) <= datetime.fromisoformat(last["created_at"]) for each in listed
    )


async def test_a_batch_is_cancelled_and_retried_as_a_whole(service: Service) -> None:
    batch = (await service.client.post("/v1/batches", json=BODY)).json()
    for action, matched in (("cancel", 3), ("cancel", 0), ("retry", 3)):
        answer = await service.client.post(f"/v1/batches/{batch['id']}/{action}", json={})
        assert (answer.status_code, answer.json()) == (
            200,
            {"action": action, "dry_run": False, "matched": matched, "changed": matched, "remaining": 0},
        )
    answer = await service.client.post("/v1/batches", json=BODY, headers={"Idempotency-Key": "k"})
    assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, "Idempotency-Key:")
    answer = await service.client.post("/v1/batches", json={**BODY, "on_done": {"task": "noop", "args": {"n": "x"}}})
    assert [each["pointer"] for each in answer.json()["errors"]] == ["/on_done/args/n"]
