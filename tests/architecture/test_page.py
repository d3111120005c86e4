"""The architecture page names only what is there, and says of states and floors what the code says."""

import re
import tomllib
from pathlib import Path

from jobtrail.status import MOVES

TOP = Path(__file__).parents[2]
PAGE = (TOP / "docs" / "architecture.md").read_text()
README = (TOP / "README.md").read_text()
PROJECT = tomllib.loads((TOP / "pyproject.toml").read_text())

_PATH = re.compile(r"(?<![\w/.-])(?:[\w.-]+/)+(?:[\w.-]+\.\w+)?(?![\w/])|(?<![\w/.-])[\w-]+\.(?:py|md|toml)\b")
CLAUSES = re.compile(r"^## The promise\n\n(.*?)^## ", re.MULTILINE | re.DOTALL)


def named(text: str) -> set[str]:
    """What is written like a file or a folder; a folder ends with a slash."""
    return {found.group() for found in _PATH.finditer(re.sub(r"/var/\S+|https?://\S+", "", text))}


def exists(path: str) -> bool:
    return any((folder / path).exists() for folder in (TOP, TOP / "service" / "jobtrail", TOP / "docs"))


def test_every_path_of_the_page_exists() -> None:
    paths = named(PAGE)
    assert len(paths) > 40
    assert {path for path in paths if not exists(path)} == set()


def test_every_path_of_the_readme_exists() -> None:
    text = re.sub(r"^```.*?^```$", "", README, flags=re.MULTILINE | re.DOTALL)
    assert {path for path in named(text) if not exists(path)} - {"application/"} == set()


def test_a_path_that_is_gone_is_found() -> None:
    found = named("See `store/gone.py`, `worker/` and `app.py`, of `/var/lib/x.py`.")
    assert found == {"store/gone.py", "worker/", "app.py"}
    assert not exists("store/gone.py")


def test_the_states_are_those_of_the_code() -> None:
    rows = re.findall(r"^\| `(\w+)` \| ((?:`\w+`(?:, )?)*) ?\|$", PAGE, re.MULTILINE)
    assert {before: set(re.findall(r"\w+", after)) for before, after in rows} == {
        before.value: {status.value for status in after} for before, after in MOVES.items()
    }


def test_the_floors_are_those_of_the_contract() -> None:
    contracts = PROJECT["tool"]["importlinter"]["contracts"]
    layers = next(each["layers"] for each in contracts if each["type"] == "layers")
    assert "```text\n" + "\n".join(layers) + "\n```" in PAGE


def test_the_promise_is_written_once_and_each_clause_has_a_home() -> None:
    assert "(../README.md#the-promise)" in PAGE
    promise = CLAUSES.search(README)
    assert promise
    clauses = re.findall(r"^(\d)\. (\w+)", promise[1], re.MULTILINE)
    assert [int(number) for number, _ in clauses] == [1, 2, 3, 4, 5, 6]
    homes = re.findall(r"^\| (\d) .*?\| (.*?) \| (.*?) \|$", PAGE, re.MULTILINE)
    assert [int(number) for number, *_ in homes] == [1, 2, 3, 4, 5, 6]
    for _, _, proof in homes:
        assert named(proof)


def test_the_changelog_begins_with_this_version() -> None:
    told = re.search(r"^## \[(.+?)\] - (unreleased|\d{4}-\d\d-\d\d)$", (TOP / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert told
    assert told[1] == PROJECT["project"]["version"]
    assert README.split("\n")[2] == PROJECT["project"]["description"]
