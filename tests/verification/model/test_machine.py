"""Whatever order the verbs come in, a job is what the rules of its life make of it."""

from collections.abc import Iterator

import pytest

from jobtrail.db.embedded import EmbeddedPostgres
from model import machine
from model.driver import Driver, driven


@pytest.fixture(scope="module")
def driver(postgres: EmbeddedPostgres) -> Iterator[Driver]:
    with driven(postgres) as made:
        yield made


@pytest.mark.parametrize(
    ("examples", "steps"), [(10, 30), pytest.param(150, 50, marks=pytest.mark.verify)], ids=["some", "many"]
)
def test_every_verb_in_any_order(driver: Driver, examples: int, steps: int) -> None:
    assert machine.run(driver, examples=examples, steps=steps) > examples * steps / 2
