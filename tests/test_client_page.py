"""The examples in docs/python-client.md: they run as written, and print what the page shows."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT, Site, serve_site

PAGE = (ROOT / "docs" / "python-client.md").read_text()
# Code, and the block after it with its output, if it has one.
EXAMPLES = re.findall(r"```python\n(.*?)```\n(?:\n```text\n(.*?)```)?", PAGE, flags=re.DOTALL)


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with serve_site(tmp_path / "site") as site:
        site.processes.worker("--slots=2")
        yield site


def test_the_examples_print_what_the_page_shows(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TAILBOARD_API", site.url)
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    for code, shown in EXAMPLES:
        printed = io.StringIO()
        with redirect_stdout(printed):
            exec(code, names)
        assert printed.getvalue() == shown, code
    names["client"].close()
    assert len(EXAMPLES) == PAGE.count("```python") == 10
