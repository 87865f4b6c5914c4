"""The constants that tests change: each exists, and every module reads it through its own module.

A copy that another module made by `from x import NAME` would keep the old value, and the test would
silently test something else."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from conftest import ROOT

TESTS = [*ROOT.glob("tests/*.py"), *ROOT.glob("tests/programs/*.py")]
OURS = [*ROOT.glob("*.py"), *ROOT.glob("tailboard/**/*.py")]
CONSTANT_RE = re.compile("[A-Z][A-Z_]+")
# As in "tailboard.web.bodies.BODY_TIME=4", or without the value.
PATH_RE = re.compile(
    r"((?:tailboard\.[a-z_.]+|api|worker|dashboard|storage))\.([A-Z][A-Z_]+)(=.*)?"
)


def module_of(file: Path) -> str:
    return ".".join(file.relative_to(ROOT).with_suffix("").parts)


@cache  # not at import: each process of the tests imports this file, and one runs these tests
def sources() -> dict[str, ast.Module]:
    return {module_of(file): ast.parse(file.read_text()) for file in OURS}


def imports(tree: ast.Module) -> dict[str, str]:
    """Our modules that a file imports, by the name that it has for each."""
    found = {}
    for node in ast.walk(tree):
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            package = f"{node.module}." if isinstance(node, ast.ImportFrom) else ""
            found |= {each.asname or each.name: package + each.name for each in node.names}
    return {name: module for name, module in found.items() if module in sources()}


def changed_names(file: Path) -> Iterator[tuple[str, str]]:
    """(module, NAME) of each constant that a file of the tests changes: in a text, by `setattr`, or
    by an assignment."""
    tree = ast.parse(file.read_text())
    modules = imports(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            if match := PATH_RE.fullmatch(node.value):
                yield match[1], match[2]
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("setattr"):
            home, name = (ast.unparse(argument).strip("'\"") for argument in node.args[:2])
            if home in modules and CONSTANT_RE.fullmatch(name):
                yield modules[home], name
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            home = ast.unparse(node.value)
            if home in modules and CONSTANT_RE.fullmatch(node.attr):
                yield modules[home], node.attr


@cache
def changed() -> set[tuple[str, str]]:
    return {each for file in TESTS for each in changed_names(file)}


def test_each_constant_that_a_test_changes_exists() -> None:
    assert len(changed()) > 30
    for module, name in sorted(changed()):
        targets = [
            ast.unparse(target)
            for node in sources()[module].body
            if isinstance(node, (ast.Assign, ast.AnnAssign))
            for target in (node.targets if isinstance(node, ast.Assign) else [node.target])
        ]
        assert name in targets, f"{module}.{name} does not exist: a test that sets it has no effect"


def test_no_module_has_a_copy_of_a_constant_that_a_test_changes() -> None:
    for module, tree in sources().items():
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom):
                copied = [each.name for each in node.names if (node.module, each.name) in changed()]
                assert not copied, f"{module} must read {node.module}.{copied[0]} by its module"
