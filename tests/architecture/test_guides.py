"""The docstring of a package is its reading guide: it names every module of the package, and none that is not there."""

import ast
import re
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "service" / "jobtrail"
# the floors of the package itself are in docs/architecture.md
GUIDES = sorted(path.parent for path in PACKAGE.rglob("*/__init__.py"))


def modules(folder: Path) -> set[str]:
    files = {path.stem for path in folder.glob("*.py") if not path.stem.startswith("_")}
    return files | {path.parent.name for path in folder.glob("*/__init__.py")}


def named(text: str) -> set[str]:
    """What is written like a module: one lower-case word, or a path of them, in backticks."""
    return set(re.findall(r"`([a-z_]+(?:/[a-z_]+)*)`", text))


def exists(name: str, folder: Path) -> bool:
    return any((at / name).with_suffix(".py").exists() or (at / name).is_dir() for at in (folder, PACKAGE))


@pytest.mark.parametrize("folder", GUIDES, ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_a_guide_names_the_modules_that_are_there(folder: Path) -> None:
    guide = named(ast.get_docstring(ast.parse((folder / "__init__.py").read_text())) or "")
    assert modules(folder) - guide == set()
    assert {name for name in guide if not exists(name, folder)} - NO_MODULES == set()


NO_MODULES = {"jobtrail"}
"""The command, and the fixture of that name."""


def test_a_module_that_is_gone_is_found() -> None:
    assert named("Read `run`, then `db/loop` of `Jobs`, by `jobtrail demo`.") == {"run", "db/loop"}
    assert not exists("run", PACKAGE / "worker")
    assert exists("db/loop", PACKAGE / "worker")
    assert exists("processes", PACKAGE / "worker")
