"""The shape of the code: short functions, a science floor that touches no file, and a test for every module."""

import ast
import pathlib
import re

import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent
MODULES = sorted(path.relative_to(ROOT) for path in (ROOT / "fedmia_jax").rglob("*.py"))
MOST_LINES = 40  # of a function, behind its docstring
SCIENCE = ("attacks", "audit", "defenses", "learning", "protocols")  # readers in data/ open files, that is their work
FORBIDDEN = {"open", "print", "input"}
FORBIDDEN_IMPORTS = {"logging", "os", "pathlib", "io", "subprocess", "tempfile", "absl", "ml_collections"}


def functions(tree: ast.AST) -> list[ast.FunctionDef]:
    """All functions and methods."""
    return [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]


def length(function: ast.FunctionDef) -> int:
    """Lines from the first statement behind the docstring to the last."""
    documented = ast.get_docstring(function) is not None and len(function.body) > 1
    return function.end_lineno - function.body[1 if documented else 0].lineno + 1


@pytest.mark.parametrize("path", [*MODULES, pathlib.Path("launch.py")], ids=str)
def test_functions_are_short(path):
    tree = ast.parse((ROOT / path).read_text())
    long = {function.name: length(function) for function in functions(tree) if length(function) > MOST_LINES}
    assert not long


@pytest.mark.parametrize("path", [path for path in MODULES if path.parts[1] in SCIENCE], ids=str)
def test_science_opens_no_file_and_says_nothing(path):
    for node in ast.walk(ast.parse((ROOT / path).read_text())):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            assert node.func.id not in FORBIDDEN, node.lineno
        if isinstance(node, ast.Import):
            assert not FORBIDDEN_IMPORTS & {alias.name.partition(".")[0] for alias in node.names}, node.lineno
        if isinstance(node, ast.ImportFrom):
            assert (node.module or "").partition(".")[0] not in FORBIDDEN_IMPORTS, node.lineno


def test_every_module_has_a_test_or_says_what_covers_it():
    table = re.findall(
        r"^\| `(fedmia_jax/[^`]+)` \| `(tests/[^`]+)`", (ROOT / "CONTRIBUTING.md").read_text(), re.MULTILINE
    )
    listed = dict(table)
    for module, test in listed.items():
        assert (ROOT / module).exists(), module
        assert (ROOT / test).exists(), test
    for path in MODULES:
        own = ROOT / "tests" / pathlib.Path(*path.parts[1:-1]) / f"test_{path.stem}.py"
        empty = not ast.parse((ROOT / path).read_text()).body[1:]  # a docstring alone
        assert own.exists() or empty or str(path) in listed, f"{path}: no test, and no line in CONTRIBUTING.md"
