"""The page's components, made from the JavaScript, HTML and CSS in static/."""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import streamlit as st

from tailboard.roles import ROOT

STATIC = ROOT / "static"
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
    """The component, as a function that draws it with its `data`. The data that it sends also has a
    `revision`, see `next_revision`."""
    component = st.components.v2.component(name, js=component_script(name, files, version))

    def draw(*, data: Mapping[str, Any], **options: Any) -> None:
        # In a list, because Streamlit looks for dataframes among the values of a dictionary. To do
        # so, it imports pandas, which takes 0.4 s and 75 MB. loader.js takes the data out again.
        component(data=[{**data, "revision": next_revision(name, data)}], **options)

    return draw


def next_revision(name: str, data: Mapping[str, Any]) -> int:
    """The number of this data of the visitor's component `name`: a higher one if the data differs
    from the last. While a component is loading, Streamlit can deliver two updates in the wrong
    order; the loader ignores one with a lower revision than the last. Revisions begin at the time
    in milliseconds, so that they also rise when the page's server was restarted. Equal data has
    the same revision, because Streamlit does not send it again."""
    sent: dict[str, tuple[str, int]] = st.session_state.setdefault("revisions", {})
    digest = hashlib.sha256(json.dumps(data).encode()).hexdigest()
    last_digest, last = sent.get(name, ("", 0))
    if digest != last_digest:
        sent[name] = digest, max(last + 1, time.time_ns() // 1_000_000)
    return sent[name][1]


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
