"""Prints the size of the package and of its tests: `python tests/architecture/figures.py`."""

import ast
import io
import tokenize
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def written(path: Path) -> int:
    """Lines that hold more than blanks and comments; a docstring counts with its text."""
    lines: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(path.read_text()).readline):
        if token.type not in {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT}:
            texts = token.string.splitlines()
            lines.update(token.start[0] + n for n, text in enumerate(texts) if text.strip())
    return len(lines)


def imported(tree: ast.Module) -> int:
    """Lines of import statements."""
    found = [each for each in ast.walk(tree) if isinstance(each, ast.Import | ast.ImportFrom)]
    return sum((each.end_lineno or each.lineno) - each.lineno + 1 for each in found)


def functions(tree: ast.Module) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    return (each for each in ast.walk(tree) if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef))


def used_once(trees: list[ast.Module]) -> tuple[int, int]:
    """Private functions that are named once in their file, and all functions."""
    once = total = 0
    for tree in trees:
        names = Counter(each.attr for each in ast.walk(tree) if isinstance(each, ast.Attribute))
        names.update(each.id for each in ast.walk(tree) if isinstance(each, ast.Name))
        defined = list(functions(tree))
        total += len(defined)
        once += sum(
            each.name.startswith("_") and not each.name.endswith("__") and names[each.name] == 1 for each in defined
        )
    return once, total


def main() -> None:
    files = sorted((ROOT / "service").rglob("*.py"))
    trees = [ast.parse(each.read_text()) for each in files]
    once, total = used_once(trees)
    tests = sorted((ROOT / "tests").rglob("*.py"))
    verification = [each for each in tests if "verification" in each.parts]
    print(f"lines of code and docstrings    {sum(map(written, files)):7,}")
    print(f"files                           {len(files):7,}")
    print(f"lines of imports                {sum(map(imported, trees)):7,}")
    print(f"longest file, lines             {max(len(each.read_text().splitlines()) for each in files):7,}")
    print(f"private functions used once     {once / total:7.0%} of {total:,}")
    print(f"lines of tests                  {sum(map(written, tests)) - sum(map(written, verification)):7,}")
    print(f"lines of verification           {sum(map(written, verification)):7,}")


if __name__ == "__main__":
    main()
