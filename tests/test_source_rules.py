"""What a fault has taught us not to call: each test names the calls that are allowed, by the
function that makes them, and says what to call instead.

A job can put anything into its folder, and a jobs folder can have any name."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator

import pytest
from conftest import ROOT

PACKAGE = sorted(str(path.relative_to(ROOT)) for path in (ROOT / "tailboard").rglob("*.py"))
MODULES = ("storage.py", "worker.py", "api.py", *PACKAGE)


def calls(module: str) -> Iterator[tuple[str, ast.Call]]:
    """Each call in a module, with the function or method that makes it."""

    def walk(node: ast.AST, where: str) -> Iterator[tuple[str, ast.Call]]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, (ast.FunctionDef, ast.ClassDef)):
                yield from walk(child, f"{where}.{child.name}".lstrip("."))
                continue
            if isinstance(child, ast.Call):
                yield where, child
            yield from walk(child, where)

    return walk(ast.parse((ROOT / module).read_text()), "")


def name_of(call: ast.Call) -> str:
    """The name as it is written: open, os.open, shutil.rmtree, cls."""
    return ast.unparse(call.func)


def found(module: str, is_forbidden: Callable[[ast.Call], object]) -> set[str]:
    """The functions with such a call, each with the line of the first call."""
    return {where for where, call in calls(module) if is_forbidden(call)}


# --- Files ----------------------------------------------------------------------------------------

OPEN = {"open", "os.open", "io.open", "os.fdopen"}
PLAIN_OPENS: dict[str, str] = {
    "open_regular": "it is what the others are to call",
    "fsync_folder": "O_DIRECTORY: only a folder can be opened",
    "open_folder": "likewise",
    "remove_tree_in_steps": "likewise",
    "_remove_level": "likewise",
    "open_files": "likewise",
    "open_level": "likewise",
    "make_folders": "likewise",
    "_walk": "likewise",
    "TreeWalk._enter": "likewise",
    "TreeWalk._leave": "likewise",
    "download": "O_DIRECTORY: a folder that the user of the command names",
    "Client.download_file": "likewise",
    "save_file": "O_EXCL: it makes the file",
    "open_regular_file": "O_PATH, which opens nothing; then that descriptor, if it is of a file",
    "make_empty": "O_EXCL: it makes the file",
    "write_new": "O_EXCL: it makes the file",
    "open_private": "the opener of files that are made, by mode x",
    "Claim.open_log_for_append": "a descriptor of open_regular",
    "WorkerFiles._remove_dead": "a descriptor of lock_file",
    "boot_id": "a file of the kernel",
    "PeakMemory.of_child": "a file of the kernel",
    "_read_stat": "a file of the kernel",
    "export_command": "a folder that the user of the command names",
    "read_exported": "likewise",
    "JobSecrets._read": "a descriptor of open_regular",
    "_read_secret": "a file that the operator names, perhaps by a link; its type is checked then",
    "locked_folder": "O_DIRECTORY: only a folder can be opened",
    "SharedKey.__init__": "a file that the operator names, perhaps by a link; its type is checked",
}


def is_glob(call: ast.Call) -> bool:
    return name_of(call) in (
        "glob",
        "iglob",
        "glob.glob",
        "glob.iglob",
        "fnmatch",
        "fnmatch.filter",
    )


@pytest.mark.parametrize("module", MODULES)
def test_no_path_is_used_as_a_pattern(module: str) -> None:
    new = found(module, is_glob)
    assert not new, (
        f"{module}: {', '.join(sorted(new))} calls glob(), which takes a `[` in the name of the "
        "jobs folder for a pattern and finds nothing: call files.paths_in."
    )


def is_recursive_remove(call: ast.Call) -> bool:
    return name_of(call) in ("shutil.rmtree", "rmtree", "os.removedirs", "os.walk")


@pytest.mark.parametrize("module", MODULES)
def test_no_tree_is_removed_by_recursion(module: str) -> None:
    new = found(module, is_recursive_remove)
    assert not new, (
        f"{module}: {', '.join(sorted(new))} walks a tree by recursion, or by its paths. A job can "
        "make folders deeper than Python recurses and than a path may be long: call "
        "files.remove_tree."
    )


def is_plain_open(call: ast.Call) -> bool:
    """Does this call open an existing path, and not a descriptor from open_regular?"""
    if name_of(call) not in OPEN:
        return False
    opened, *rest = call.args
    is_new = rest and isinstance(rest[0], ast.Constant) and "x" in str(rest[0].value)
    is_regular = isinstance(opened, ast.Call) and name_of(opened) == "open_regular"
    return not is_new and not is_regular


@pytest.mark.parametrize("module", MODULES)
def test_files_in_a_jobs_folder_are_opened_only_after_a_type_check(module: str) -> None:
    new = found(module, is_plain_open) - PLAIN_OPENS.keys()
    assert not new, (
        f"{module}: {', '.join(sorted(new))} calls open() or os.open(). A FIFO in place of the "
        "file would hang it, and a link lead it elsewhere: call files.open_regular (or "
        "read_small, lock_file, write_new). If no job can have a hand in it, name it above."
    )


# --- Descriptors ----------------------------------------------------------------------------------


@pytest.mark.parametrize("module", MODULES)
def test_no_code_waits_with_select(module: str) -> None:
    users = found(module, lambda call: name_of(call) == "select.select")
    assert not users, (
        f"{module}: {', '.join(sorted(users))} calls select.select, which fails with a descriptor "
        "above 1,023: call select.poll, or use a selector."
    )


# --- Scripts for Redis ----------------------------------------------------------------------------


def test_each_script_for_redis_is_used_and_exists() -> None:
    used = {
        call.args[0].value
        for module in MODULES
        for _, call in calls(module)
        if name_of(call).endswith(("link.run", "link.script"))
        and isinstance(call.args[0], ast.Constant)
    }
    scripts = {path.stem for path in (ROOT / "tailboard/machines/lua").iterdir()}
    assert scripts - {"begin"} == used


# --- Records --------------------------------------------------------------------------------------

RECORDS: dict[str, str] = {
    "Settings.read": "each variable is checked to be a setting",
    "parse_record": "known fields over defaults",
    "parse_command": "known fields over defaults",
    "parse_notices": "likewise",
    "_parse_notice": "likewise",
    "_parse_delivery": "likewise",
    "_make_worker": "known fields over defaults",
    "_parse_claimed": "four fields, by their names",
    "create": "a request that a model has checked",
    "make_job": "a request that a model has checked",
    "make_command": "a request that a model has checked",
    "SavedCommand.job": "options of a saved command, which a model or parse_command has checked",
    "option_field": "the limits of a declaration",
}


def is_unfiltered_record(call: ast.Call) -> bool:
    """Does this call build one of our classes from all fields of a record?"""
    is_class = re.fullmatch("cls|_?[A-Z][A-Za-z]+", name_of(call))
    records = [keyword.value for keyword in call.keywords if keyword.arg is None]
    return bool(is_class) and not all(map(is_filtered, records))


def is_filtered(record: ast.expr) -> bool:
    return isinstance(record, ast.Call) and name_of(record) == "known_fields"


@pytest.mark.parametrize("module", MODULES)
def test_no_record_class_is_built_from_unchecked_fields(module: str) -> None:
    new = found(module, is_unfiltered_record) - RECORDS.keys()
    assert not new, (
        f"{module}: {', '.join(sorted(new))} makes an object with all fields of a record. One that "
        "a newer version has written has others: pass values.known_fields(cls, record)."
    )
