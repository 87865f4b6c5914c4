"""The layout: which part may import which, and how long files and functions may be."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest
from conftest import ROOT

# From the top. A part imports from itself and from the floors below; parts of one floor do not know
# each other.
FLOORS = [
    {"api", "worker", "dashboard"},
    {"tailboard.cli"},
    {"tailboard.web", "tailboard.run", "tailboard.page"},
    {"tailboard.explain"},  # what the logs of a job and of its earlier runs say
    {"tailboard.notify"},  # what to notify whom of, and sending it
    {"storage"},
    {"tailboard.machines"},
    {"tailboard.folder"},
    {"tailboard"},  # the core: the files directly in tailboard/
]
PROGRAM = ("tailboard.command", "tailboard.__main__")  # they start the commands
CORE_OF_THE_PAGE = {  # what the page may import from the core
    "tailboard.access_role",
    "tailboard.client_http",  # how the Python client sends requests
    "tailboard.cron",  # the times of a schedule that is being typed
    "tailboard.env_file",
    "tailboard.job",  # the declaration of the options
    "tailboard.job_option",
    "tailboard.notify_rules",  # how the API masks URLs
    "tailboard.proxy_headers",  # which user a proxy names
    "tailboard.roles",  # where static/ is
    "tailboard.sessions",  # the form of a session key
    "tailboard.settings",
    "tailboard.titles",
    "tailboard.values",
}
ROLES = ("api.py", "worker.py", "dashboard.py", "storage.py")
LONGEST_ROLE, LONGEST_PART, LONGEST_FUNCTION = 700, 600, 40  # lines


def modules() -> dict[str, Path]:
    """The path of each of our modules, by its name."""
    files = [*(ROOT / role for role in ROLES), *(ROOT / "tailboard").rglob("*.py")]
    found = {".".join(file.relative_to(ROOT).with_suffix("").parts): file for file in files}
    return {name.removesuffix(".__init__"): file for name, file in found.items()}


MODULES = modules()


def part_of(module: str) -> str:
    """The part that a module belongs to: `tailboard.web` for `tailboard.web.auth`, `tailboard` for
    a module of the core."""
    if module in PROGRAM:
        return "tailboard.cli"
    package = module.rpartition(".")[0]
    return package if package.startswith("tailboard") else module


def floor_of(module: str) -> int:
    """The number of a floor; 0 is the top."""
    return next(n for n, floor in enumerate(FLOORS) if part_of(module) in floor)


def imports_of(module: str) -> set[str]:
    """Our modules that this one imports, also inside functions."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(MODULES[module].read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module} has a relative import"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
            found.add(node.module or "")
    return (found & MODULES.keys()) - {"tailboard", *(f"tailboard.{n}" for n in folders())}


def folders() -> list[str]:
    return [path.name for path in (ROOT / "tailboard").iterdir() if path.is_dir()]


@pytest.mark.parametrize("module", MODULES)
def test_a_module_imports_only_from_layers_below_it(module: str) -> None:
    for imported in imports_of(module):
        above, below = floor_of(module), floor_of(imported)
        assert above <= below, f"{module} imports {imported}, which is on a higher floor"
        if above == below and part_of(module) != part_of(imported):
            raise AssertionError(f"{module} imports {imported}, another part of its floor")


def test_the_page_imports_nothing_from_api_worker_or_storage() -> None:
    for module in MODULES:
        if part_of(module) in ("dashboard", "tailboard.page"):
            others = {name for name in imports_of(module) if part_of(name) != "tailboard.page"}
            assert others <= CORE_OF_THE_PAGE, module
            text = MODULES[module].read_text()
            assert not re.search(r"^\s*(import|from) flask\b", text, re.MULTILINE), module


def test_modules_do_not_import_each_other_in_a_cycle() -> None:
    left = {module: imports_of(module) for module in MODULES}
    while ready := [module for module, needed in left.items() if not needed & left.keys()]:
        for module in ready:
            del left[module]
    assert not left, f"in or above a circle: {', '.join(sorted(left))}"


@pytest.mark.parametrize("module", MODULES)
def test_each_file_is_short_and_begins_with_a_summary(module: str) -> None:
    text = MODULES[module].read_text()
    longest = LONGEST_ROLE if MODULES[module].name in ROLES else LONGEST_PART
    assert text.count("\n") <= longest, "it covers two subjects: divide it between them"
    assert ast.get_docstring(ast.parse(text)), "its docstring is missing"


@pytest.mark.parametrize("module", MODULES)
def test_functions_are_short(module: str) -> None:
    long = [
        node.name
        for node in ast.walk(ast.parse(MODULES[module].read_text()))
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
        and (node.end_lineno or 0) - node.lineno >= LONGEST_FUNCTION
    ]
    assert not long, f"divide {', '.join(long)} into steps"
