"""The markers that a job can write to its log: sections, progress, results and annotations.

A marker is a line of its own. A time and colours may come before it. The same rules in JavaScript:
static/log_markers.js; both are tested with tests/marker_cases.json."""

from __future__ import annotations

import re
from typing import NamedTuple

from tailboard.visible_text import visible_text

LINE_BYTES = 5_000  # of a line that are looked at
MOST_NAME = 200  # characters of a section's name, and of a file's name
MOST_TEXT = 1_000  # characters of a result's value, and of an annotation's text
MOST_PROGRESS_TEXT = 200  # characters

TIME = (
    r"\[?(?:[0-9]{4}[-/][0-9]{2}[-/][0-9]{2}[T ]|[A-Z][a-z]{2} [ 0-3][0-9] )?"
    r"[0-9]{2}:[0-9]{2}:[0-9]{2}(?:[.,][0-9]{1,9})?(?:Z|[+-][0-9]{2}:?[0-9]{2})?\]?"
)
COLOURS = r"(?:\x1b\[[0-9;]*[A-Za-z])*"
MARKER = (
    r"(?:::(?:group|endgroup|progress|result|error|warning|notice)\b"
    r"|(?:---|\+\+\+|~~~)[ \t]|\^\^\^ \+\+\+)"
)
BEFORE = rf"{COLOURS}(?:{TIME}{COLOURS}[ \t]+{COLOURS})?"
# How a line begins that may be a marker. RE2 compiles it, too: see log_marks.py.
BEGINNING = BEFORE + MARKER
BEGINNING_RE = re.compile(BEGINNING.encode())
TIME_RE = re.compile(rf"{TIME}[ \t]+")
OVERWRITTEN_RE = re.compile(rb"\r[^\r]")

HEADER_RE = re.compile(r"(---|\+\+\+|~~~)[ \t]+(.*)")
ATTEMPT_RE = re.compile(r"attempt ([1-9][0-9]{0,8}) ---")  # see error_lines.attempt_notice
# How a name begins: with a letter, a digit, an emoji such as :cow: or any character beyond ASCII.
NAME_RE = re.compile(r"[A-Za-z0-9\[(]|:[a-z0-9_+-]+:|[^\x00-\x7f]")
# Other programs also write such lines: `set -x` (+++ make all) and fences of code (~~~ python).
# So after these two signs a name does not begin with a lowercase letter or a bracket, and its first
# word is not an assignment.
STRICT_NAME_RE = re.compile(r"(?![A-Za-z0-9_]+\+?=)(?:[A-Z0-9]|:[a-z0-9_+-]+:|[^\x00-\x7f])")
OTHER_RE = re.compile(
    r"[^\n]*\t"  # the time in a diff, after the name of the file
    r"|\S*/\S*$|\S*\.[A-Za-z]\S*$"  # the name of a file in a diff
    r"|(?:Makefile|Dockerfile|README|LICENSE)$"
    r"|(?:[Ee]xpected|[Aa]ctual|[Rr]eceived|[Oo]riginal|[Nn]ew|[Oo]ld|[Cc]urrent)$"  # of a diff
    r"|(?:before|after)(?:$|:)"  # `ansible --diff`
    r"|(?:PASS|FAIL|SKIP|BENCH): "  # `go test`
    r"|[^\n]*(?:---|\+\+\+|~~~)$"  # a heading such as that of ping, or of strace: +++ exited +++
)
WORD_RE = re.compile(r"[^\W_]")
# Control characters of Unicode, and those that change the direction of the text around them.
INVISIBLE_RE = re.compile("[\x00-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")

GROUP_RE = re.compile(r"::(group|endgroup)::(.*)")
NUMBER = r"[0-9]{1,12}(?:\.[0-9]{1,9})?"
PROGRESS_RE = re.compile(
    rf"::progress (?P<done>{NUMBER})(?:%| of (?P<all>{NUMBER}))?(?: (?!of [0-9])(.*))?"
)
RESULT_RE = re.compile(r"::result ([A-Za-z0-9_.-]{1,64})=(.*)")
ANNOTATION_RE = re.compile(r"::(error|warning|notice)(?: ((?:[^:]|:(?!:))*))?::(.*)", re.DOTALL)
# How GitHub's toolkit escapes values; the percent sign comes last.
ESCAPES = (("%0D", ""), ("%0A", "\n"), ("%3A", ":"), ("%2C", ","), ("%25", "%"))


class SectionStart(NamedTuple):
    """`--- Name`, `+++ Name`, `~~~ Name` or `::group::Name`."""

    name: str
    kind: str  # "section" or "group"
    is_open: bool = False
    attempt: int | None = None  # if it is our notice that an attempt begins


class OpenSection(NamedTuple):
    """`^^^ +++`: the section should be shown unfolded."""


class GroupEnd(NamedTuple):
    """`::endgroup::`"""


class Progress(NamedTuple):
    """`::progress 40 of 90 text`"""

    percent: float  # 0 to 100
    text: str | None


class Result(NamedTuple):
    """`::result key=value`"""

    key: str
    value: str


class Annotation(NamedTuple):
    """`::error file=a.py,line=3::text`, or a warning or notice."""

    level: str
    text: str
    file: str | None
    file_line: int | None


Marker = SectionStart | OpenSection | GroupEnd | Progress | Result | Annotation


def parse_marker(raw: bytes) -> Marker | None:
    """The marker that a line is; None if it is none. `raw`: without its newline. A line that
    overwrites itself with carriage returns is no marker."""
    raw = raw[:LINE_BYTES].rstrip(b"\r")
    if not BEGINNING_RE.match(raw) or OVERWRITTEN_RE.search(raw):
        return None
    text = visible_text(raw.decode(errors="replace"), LINE_BYTES)
    if found := TIME_RE.match(text):
        text = text[found.end() :]
    text = text.rstrip()
    if text.startswith("::"):
        return parse_command(text)
    if text == "^^^ +++":
        return OpenSection()
    return parse_header(text)


def parse_header(text: str) -> SectionStart | None:
    header = HEADER_RE.fullmatch(text)
    if header is None:
        return None
    sign, name = header[1], header[2]
    if sign == "---" and (attempt := ATTEMPT_RE.fullmatch(name)):
        number = int(attempt[1])
        return SectionStart(f"attempt {number}", "section", attempt=number)
    begins = NAME_RE if sign == "---" else STRICT_NAME_RE
    if not begins.match(name) or OTHER_RE.match(name) or not WORD_RE.search(name):
        return None
    return SectionStart(clean(name, MOST_NAME), "section", is_open=sign == "+++")


def parse_command(text: str) -> Marker | None:
    """A marker that begins with two colons."""
    if group := GROUP_RE.fullmatch(text):
        name = clean(group[2], MOST_NAME)
        if group[1] == "endgroup":
            return None if name else GroupEnd()
        return SectionStart(name, "group") if name else None
    if found := PROGRESS_RE.fullmatch(text):
        return parse_progress(found["done"], found["all"], found[3])
    if found := RESULT_RE.fullmatch(text):
        return Result(found[1], clean(found[2], MOST_TEXT))
    if found := ANNOTATION_RE.fullmatch(text):
        return parse_annotation(found[1], found[2] or "", found[3])
    return None


def parse_progress(done: str, total: str | None, text: str | None) -> Progress | None:
    whole = 100.0 if total is None else float(total)
    if whole == 0 or float(done) > whole:
        return None
    percent = round(100 * float(done) / whole, 1)
    return Progress(percent, clean(text or "", MOST_PROGRESS_TEXT) or None)


def parse_annotation(level: str, properties: str, text: str) -> Annotation | None:
    shown = "\n".join(clean(line, MOST_TEXT) for line in unescape(text).split("\n")).strip()
    if not shown:
        return None
    pairs = (pair.partition("=") for pair in properties.split(","))
    given = {key.strip(): clean(unescape(value), MOST_NAME) for key, _, value in pairs}
    line = given.get("line", "")
    number = int(line) if re.fullmatch("[0-9]{1,9}", line) else None
    return Annotation(level, shown[:MOST_TEXT], given.get("file") or None, number)


def unescape(text: str) -> str:
    for escape, character in ESCAPES:
        text = text.replace(escape, character)
    return text


def clean(text: str, limit: int) -> str:
    """A text without characters that are invisible or change the order of others."""
    return INVISIBLE_RE.sub("", text.replace("\t", " ")).strip()[:limit]
