"""The README and the docs: their size and form, their links, and phrases that they avoid."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import ROOT

README = ROOT / "README.md"
PAGES = sorted((ROOT / "docs").glob("*.md"))
OTHERS = [ROOT / "CHANGELOG.md", ROOT / "SECURITY.md", ROOT / ".github" / "CONTRIBUTING.md"]
TEXTS = [README, *OTHERS, *PAGES]
MAX_README_LINES = 200
MAX_PAGE_LINES = 350
MAX_PARAGRAPH_LINES = 5

AVOIDED = {  # a phrase, and what to write instead
    r"stands? (in|for|beside|with)\b": "is in, is listed in, replaces",
    r"(is|are) told|tells?\b": "reports, shows, returns",
    r"any more\b|no more\b(?! (than|jobs|runs|room))": "no longer",
    r"anew\b": "again",
    r"for ever\b": "forever",
    r"time-outs?\b": "timeout",
    r"goes? on\b(?! [A-Z`])": "continues",
    r"is gone\b(?!;)": "has exited, was deleted",
    r"passed over\b": "skipped, ignored",
    r"of (that|which|one's own) name\b": "named so",
    r"in the place of\b|at the most\b|in the midst\b|likewise\b": "instead of, at most, also",
    r"who (has|have) it\b|what (runs|waits)\b": "anyone with it, running jobs",
}


def without_code(text: str) -> str:
    """The text with fenced blocks emptied, so that line numbers stay valid, and without `code`."""
    text = re.sub(
        r"^ *```.*?^ *```$", lambda block: "\n" * block[0].count("\n"), text, flags=re.M | re.S
    )
    return re.sub(r"`[^`]*`|\"[^\"]*\"", "``", text)


def paragraphs(path: Path) -> Iterator[list[str]]:
    """The paragraphs and list items of a text, as lists of lines; no tables, no code and no
    footnotes."""
    lines: list[str] = []
    for line in without_code(path.read_text()).split("\n"):
        if lines and (not line.strip() or line.startswith(("#", "|")) or is_item(line)):
            yield lines
            lines = []
        if line.strip() and not line.startswith(("#", "|", "![", "[^")):
            lines.append(line)
    if lines:
        yield lines


def is_item(line: str) -> bool:
    return bool(re.match(r" *([-*]|[0-9]+\.) ", line))


def anchors(path: Path) -> set[str]:
    """The anchors that GitHub gives to the headings of a text."""
    text = re.sub(r"^ *```.*?^ *```$", "", path.read_text(), flags=re.M | re.S)
    headings = re.findall(r"^#+ (.*)$", text, flags=re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: path.name)
def test_links_lead_to_existing_files_and_headings(path: Path) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", without_code(path.read_text())):
        name, _, anchor = link.partition("#")
        if "://" in link:
            continue
        target = (path.parent / name).resolve() if name else path
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


@pytest.mark.parametrize("path", [README, *PAGES], ids=lambda path: path.name)
def test_texts_are_short(path: Path) -> None:
    limit = MAX_README_LINES if path == README else MAX_PAGE_LINES
    lines = [line for line in path.read_text().splitlines() if not line.startswith("[^")]
    assert len(lines) <= limit  # without footnotes
    for paragraph in paragraphs(path):
        assert len(paragraph) <= MAX_PARAGRAPH_LINES, paragraph[0]


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_a_page_begins_with_its_purpose_and_an_example(path: Path) -> None:
    heading, purpose = path.read_text().split("\n\n")[:2]
    assert heading.startswith("# ") and purpose.startswith("This page"), path
    assert "Example: " in purpose.replace("\n", " "), path


def test_the_landing_page_lists_every_page() -> None:
    index = (ROOT / "docs" / "index.md").read_text()
    for path in PAGES:
        assert path.name == "index.md" or f"]({path.name})" in index, path


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: path.name)
def test_texts_avoid_phrases_that_are_hard_to_read(path: Path) -> None:
    for number, line in enumerate(without_code(path.read_text()).split("\n"), 1):
        for phrase, better in AVOIDED.items():
            found = re.search(rf"\b({phrase})", line)
            assert not found, f"{path.name}:{number}: '{found[0]}': write {better}"
