"""The page's components: JavaScript, HTML and CSS of static/."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import streamlit as st

STATIC = Path(__file__).parents[2] / "static"


def read_static(name: str) -> str:
    return (STATIC / name).read_text()


def static_files() -> list[str]:
    """All that the page is made of, by its path below static/."""
    found = [path for path in STATIC.rglob("*") if path.is_file()]
    return sorted(path.relative_to(STATIC).as_posix() for path in found)


def is_fetched_anew(name: str) -> bool:
    """Does the loader fetch this file anew on a new version, before anything imports it? For the
    others it has other ways, and Streamlit takes some 8 ms for each file."""
    return name.endswith((".js", ".json")) and name != "loader.js"


def static_version(names: Iterable[str]) -> str:
    """Another text whenever one of the files is another."""
    digest = hashlib.sha256()
    for name in names:
        digest.update(f"{name}\0{read_static(name)}\0".encode())
    return digest.hexdigest()[:16]


def component_script(name: str, files: list[str], version: str) -> str:
    """The script that loads a component from static/, and never some old and some new files."""
    imported = [file for file in files if is_fetched_anew(file)]
    constants = {"NAME": name, "FILES": imported, "VERSION": version}
    lines = [f"const {key} = {json.dumps(value)};" for key, value in constants.items()]
    return "\n".join([*lines, read_static("loader.js")])


def make_component(name: str, files: list[str], version: str) -> Callable[..., Any]:
    script = component_script(name, files, version)
    component: Callable[..., Any] = st.components.v2.component(name, js=script)
    return component


files = static_files()
version = static_version(files)
page_header = make_component("page_header", files, version)
job_list = make_component("job_list", files, version)
log_pane = make_component("log_pane", files, version)
errands = make_component("errands", files, version)
saved_commands = make_component("saved_commands", files, version)
