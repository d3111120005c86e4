"""The rules for Prometheus and the dashboard for Grafana ask for what the metrics have, with labels that they have."""

import json
import re
import shutil
import subprocess
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from jobtrail.db.direct import Statement
from jobtrail.db.errors import FAILURES
from jobtrail.status import Status
from support.rows import in_status
from support.service import Service
from support.until import until
from support.world import Place, ran

MONITORING = Path(__file__).parents[2] / "docs" / "monitoring"
SCRAPES = "prometheus.yml"
RULES = MONITORING / "prometheus-rules.yml"
BOARD = json.loads((MONITORING / "grafana.json").read_text())
ALERTS = [rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]

SELECTOR = re.compile(r"\b(jobtrail_\w+)(?:\{(.*?)\})?")
GROUPED = re.compile(r"\bby \((.*?)\)")
FROM_PROMETHEUS = {"instance", "job"}


def expressions() -> Iterator[tuple[str, str]]:
    yield from ((rule["alert"], rule["expr"]) for rule in ALERTS)
    yield from ((panel["title"], target["expr"]) for panel in BOARD["panels"] for target in panel["targets"])


@pytest.fixture
async def told(running: Service, place: Place) -> Mapping[str, set[str]]:
    """The labels of each sample, by its name, of a service that has run a job."""
    await ran(running.services, "noop")
    await in_status(place, Status.RUNNING, queue="mail")
    await in_status(place, Status.PENDING, queue="mail", run_at=await place.value("SELECT now() + interval '1 h'"))
    with pytest.raises(FAILURES):
        await running.services.database.fetch(Statement("SELECT 1 / 0"))
    found: dict[str, set[str]] = defaultdict(set)

    async def complete() -> bool:
        for path in ("/v1/metrics", "/v1/metrics/database"):
            for family in text_string_to_metric_families((await running.client.get(path)).text):
                for sample in family.samples:
                    found[sample.name] |= set(sample.labels)
        return "jobtrail_db_jobs_total" in found and "jobtrail_wait_seconds_bucket" in found

    await until(complete)
    return found


def wrong(expression: str, told: Mapping[str, set[str]]) -> list[str]:
    """Names that no sample has, and labels that those which are asked for do not have."""
    found = SELECTOR.findall(expression)
    unknown = [name for name, _ in found if name not in told]
    labels = set.union(set(), *(told.get(name, set()) for name, _ in found)) | FROM_PROMETHEUS
    unknown += [
        label for name, inside in found for label in re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", inside)
        if label not in told.get(name, set()) | FROM_PROMETHEUS
    ]  # fmt: skip
    unknown += [
        label for each in GROUPED.findall(expression) for label in re.split(r",\s*", each) if label not in labels
    ]
    return unknown


async def test_every_expression_asks_for_what_is_there(told: Mapping[str, set[str]]) -> None:
    asked = list(expressions())
    assert len(asked) > 25
    assert {title: wrong(expression, told) for title, expression in asked if wrong(expression, told)} == {}
    assert wrong('sum by (colour) (jobtrail_gone{x="1"}) + jobtrail_slots{y=~"1"}', told) == [
        "jobtrail_gone", "x", "y", "colour",
    ]  # fmt: skip


async def test_every_metric_is_on_the_dashboard_or_in_a_rule(told: Mapping[str, set[str]]) -> None:
    asked = {name for _, expression in expressions() for name, _ in SELECTOR.findall(expression)}
    families = {re.sub("_(bucket|count|sum)$", "", name) for name in told}
    missing = families - {re.sub("_(bucket|count|sum)$", "", name) for name in asked}
    # that of the same jobs by task, the alarms whose numbers are there, and what tells a node of a process
    assert missing == {
        "jobtrail_db_task_running_jobs", "jobtrail_db_alarm", "jobtrail_node_info", "jobtrail_db_loop_lag_seconds",
        "jobtrail_db_refused_writes", "jobtrail_db_left_behind",
    }  # fmt: skip


def test_a_rule_says_what_to_do_and_names_labels_that_it_has() -> None:
    for rule in ALERTS:
        assert set(rule) <= {"alert", "expr", "for", "labels", "annotations"}
        assert rule["labels"]["severity"] in {"info", "warning", "critical"}
        assert rule["annotations"]["summary"]
    assert len({rule["alert"] for rule in ALERTS}) == len(ALERTS)


def test_the_dashboard_lays_its_panels_side_by_side() -> None:
    places = [(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in BOARD["panels"]]
    assert len(set(places)) == len(places)
    assert [panel["id"] for panel in BOARD["panels"]] == list(range(1, len(places) + 1))
    assert all(target["datasource"]["uid"] == "${datasource}" for each in BOARD["panels"] for target in each["targets"])


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed")
def test_promtool_takes_all_of_it(tmp_path: Path) -> None:
    shown = [{"record": f"panel:{number}", "expr": each} for number, (_, each) in enumerate(expressions())]
    (tmp_path / "board.yml").write_text(yaml.safe_dump({"groups": [{"name": "board", "rules": shown}]}))
    for words in (("rules", str(RULES)), ("rules", str(tmp_path / "board.yml")), ("config", str(MONITORING / SCRAPES))):
        done = subprocess.run(["promtool", "check", *words], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


COUNTER = 'jobtrail_db_jobs_total{{task="{task}",kind="{kind}"}}'
OLD = 'jobtrail_db_oldest_pending_seconds{queue="mail"}'
FROM_0 = {
    **{COUNTER.format(task="mail", kind=kind): "0x10 100x60" for kind in ("failed", "succeeded", "lost")},
    **{COUNTER.format(task="report", kind=kind): "0x70" for kind in ("failed", "succeeded", "lost")},
}
RINGS: list[tuple[str, dict[str, str], bool]] = [
    ("NoNode", {}, True),
    ("NoNode", {'jobtrail_db_slots{executor="loop"}': "0x70", 'jobtrail_db_slots{executor="thread"}': "0x70"}, True),
    ("NoNode", {'jobtrail_db_slots{executor="loop"}': "0x70", 'jobtrail_db_slots{executor="thread"}': "1x70"}, False),
    ("Failures", FROM_0, True),
    ("Failures", {COUNTER.format(task="jobtrail.webhook", kind="failed"): "0x10 100x60"}, False),
    ("LostAttempts", {COUNTER.format(task="mail", kind="lost"): "0x55 100x10"}, True),
    ("LostAttempts", {COUNTER.format(task="mail", kind="lost"): "100x70"}, False),
    ("ManyPending", {'jobtrail_db_pending_jobs{queue="mail"}': "1001x70"}, True),
    ("ManyPending", {'jobtrail_db_pending_jobs{queue="jobtrail.webhooks"}': "1001x70"}, False),
    ("OldPending", {OLD: "301x70"}, True),
    ("OldPending", {OLD: "0x70"}, False),
]


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed")
def test_rules_ring_for_what_they_are_for(tmp_path: Path) -> None:
    """An hour of each."""
    tests = [
        {
            "name": f"{alert} {series}",
            "interval": "1m",
            "input_series": [{"series": name, "values": values} for name, values in series.items()],
            "promql_expr_test": [
                {
                    "expr": f'count(ALERTS{{alertname="Jobtrail{alert}",alertstate="firing"}})',
                    "eval_time": "1h",
                    "exp_samples": [{"labels": "{}", "value": 1}] * rings,
                }
            ],
        }
        for alert, series, rings in RINGS
    ]
    (tmp_path / "tests.yml").write_text(yaml.safe_dump({"rule_files": [str(RULES)], "tests": tests}))
    command = ["promtool", "test", "rules", str(tmp_path / "tests.yml")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


async def test_what_is_scraped_is_there(told: Mapping[str, set[str]], running: Service) -> None:
    scrapes = yaml.safe_load((MONITORING / SCRAPES).read_text())["scrape_configs"]
    paths = [each["metrics_path"] for each in scrapes]
    assert [(await running.client.get(path)).status_code for path in paths] == [200, 200]
    assert told
