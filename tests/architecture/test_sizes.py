"""Small files and small functions. The figures are printed, the stops are asserted."""

import ast
import statistics
from collections import Counter
from pathlib import Path

PACKAGE = Path(__file__).parents[2] / "service" / "jobtrail"
FILES = sorted(PACKAGE.rglob("*.py"))
TESTS = Path(__file__).parents[1]


def functions(path: Path) -> list[tuple[str, int]]:
    found = (
        node
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    )
    return [(f"{path.name}:{node.name}", (node.end_lineno or 0) - node.lineno + 1) for node in found]


def test_files_and_functions_stay_small() -> None:
    lines = {str(path.relative_to(PACKAGE)): path.read_text().count("\n") for path in FILES}
    lengths = dict(length for path in FILES for length in functions(path))
    tenths = statistics.quantiles(lengths.values(), n=10)
    largest = max(lines, key=lines.__getitem__)
    print(
        f"\n{sum(lines.values())} lines in {len(lines)} files: median {statistics.median(lines.values()):g}, "
        f"largest {lines[largest]} ({largest}); {len(lengths)} functions: median "
        f"{statistics.median(lengths.values()):g}, 90 % within {tenths[8]:g} lines"
    )
    assert lines[largest] <= 350, largest
    assert max(lengths.values()) <= 60, max(lengths, key=lengths.__getitem__)
    assert tenths[8] <= 30


def test_test_files_stay_small_too() -> None:
    large = [str(path) for path in TESTS.rglob("*.py") if path.read_text().count("\n") > 350]
    assert not large


def test_packages_say_what_is_true_of_them() -> None:
    silent = [
        path for path in FILES if path.name == "__init__.py" and not ast.get_docstring(ast.parse(path.read_text()))
    ]
    assert not silent


def test_only_jobs_ops_and_db_speak_sql() -> None:
    """Text that begins like a statement lies in a floor that may know the database."""
    verbs = ("select ", "insert into", "update jobtrail", "delete from", "with ")
    strays = [
        f"{path}:{node.lineno}"
        for path in FILES
        if path.relative_to(PACKAGE).parts[0] not in ("db", "jobs", "ops", "events", "demo")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Constant)
        and isinstance(node.value, str)
        and node.value.lstrip().lower().startswith(verbs)
        and "jobtrail." in node.value
    ]
    assert not strays


LOOPS = {
    "db/loop.py": 1,
    # these have an end of their own
    "worker/attempts.py": 1,  # a node that stops tells what runs to end, and gives up after a while
    "worker/processes/child.py": 1,  # a process waits for its next job
    "worker/processes/messages.py": 1,  # a socket gives a message in parts
    "worker/processes/pool.py": 2,  # what a process sends, to the end of its job; until it has ended
    "worker/processes/runtime.py": 2,  # a process reads and writes its pipe
    "worker/reports.py": 1,  # the oldest lines are dropped
    "worker/threads.py": 1,  # a thread waits for its next call
    "worker/watchdog.py": 1,  # the frames of a stack
    "worker/worker.py": 1,  # it claims while jobs wait and there are slots
}


def test_one_class_holds_the_only_periodic_loop_of_a_node() -> None:
    loops = Counter(
        path.relative_to(PACKAGE).as_posix()
        for path in (PACKAGE / "db" / "loop.py", *(PACKAGE / "worker").rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.While)
    )
    assert loops == LOOPS
