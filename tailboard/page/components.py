"""The page's components, made from the JavaScript, HTML and CSS in static/."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

import streamlit as st

STATIC = Path(__file__).parents[2] / "static"
# In loader.js: a comment in /* */, or a line with nothing but a comment.
COMMENT_RE = re.compile(r"/\*.*?\*/\n*|^ *//[^\n]*\n", re.DOTALL | re.MULTILINE)

Component = Callable[..., Any]


def read_static(name: str) -> str:
    return (STATIC / name).read_text()


def static_files() -> list[str]:
    """The paths of all files in static/, relative to it."""
    found = [path for path in STATIC.rglob("*") if path.is_file()]
    return sorted(path.relative_to(STATIC).as_posix() for path in found)


def must_refetch(name: str) -> bool:
    """Must the loader fetch this file again for a new version, before anything imports it? The
    other files are loaded in other ways, and Streamlit takes some 8 ms for each file."""
    return name.endswith((".js", ".json")) and name != "loader.js"


def static_version(names: Iterable[str]) -> str:
    """A text that changes if the name or the content of a file changes."""
    digest = hashlib.sha256()
    for name in names:
        digest.update(f"{name}\0{read_static(name)}\0".encode())
    return digest.hexdigest()[:16]


def component_script(name: str, files: list[str], version: str) -> str:
    """The script that loads a component from static/. It never mixes files of two versions. It goes
    without comments, because Streamlit sends it again with each change of the component's data."""
    imported = [file for file in files if must_refetch(file)]
    constants = {"NAME": name, "FILES": imported, "VERSION": version}
    lines = [f"const {key} = {json.dumps(value)};" for key, value in constants.items()]
    return "\n".join([*lines, COMMENT_RE.sub("", read_static("loader.js"))])


def make_component(name: str, files: list[str], version: str) -> Component:
    script = component_script(name, files, version)
    component: Component = st.components.v2.component(name, js=script)
    return component


class Components(NamedTuple):
    """The components, each as a function that draws it. They bear the names of files in static/."""

    page_header: Component
    job_list: Component
    log_pane: Component
    errands: Component
    saved_commands: Component
    sign_in: Component


def load_components() -> Components:
    """The components, made from the files that static/ contains now. dashboard.py calls this at
    each visit, so a visitor gets the new files after an upgrade, whether or not the page's server
    was restarted."""
    files = static_files()
    version = static_version(files)
    return Components(*(make_component(name, files, version) for name in Components._fields))
