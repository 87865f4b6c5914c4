"""`tailboard diff`: compare the logs of two jobs."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import zip_longest
from typing import Any

import click

from tailboard.cli import terminal
from tailboard.cli.completers import job_ids
from tailboard.cli.target import client
from tailboard.cli.terminal import Commands, cut_to, echo_line, find, pad_to

SIDE_BY_SIDE = 120  # columns of a terminal from which on the logs are shown side by side
CONTEXT = 3  # equal lines around the others
TAB = 8  # columns
COLOURS = {"-": "red", "+": "green", "<": "red", ">": "green", "|": "yellow", "@": "cyan"}
Hunk = Mapping[str, Any]
commands = Commands()


@commands.command("diff")
@click.argument("job_id", metavar="ID", shell_complete=job_ids)
@click.argument("other", metavar="[ID]", required=False, shell_complete=job_ids)
def diff_command(job_id: str, other: str | None) -> None:
    """Compare the logs of two jobs line by line. With one ID, compare a job with the last earlier
    success of its command.

    Numbers, times, hashes and temporary paths do not count. Exits with 0 if no line differs, and
    with 1 otherwise."""
    new = find(job_id if other is None else other)["id"]
    old = None if other is None else find(job_id)["id"]
    found = client().diff(new, old)
    if found["partial"]:
        raise click.ClickException("reading these logs takes too long")
    columns = terminal.terminal_columns()
    print_comparison(found, columns)
    for side in (found["left"], found["right"]):
        if side["cut"]:
            note = f"{side['id']}: only the first {side['lines']:,} lines were compared"
            echo_line(note, err=True)
    sys.exit(0 if found["same"] else 1)


def print_comparison(found: Mapping[str, Any], columns: int | None) -> None:
    if found["same"]:
        return
    has_colours = columns is not None and "NO_COLOR" not in os.environ
    is_wide = columns is not None and columns >= SIDE_BY_SIDE
    lines = wide_lines(found, columns or 0) if is_wide else narrow_lines(found)
    for mark, line in lines:
        echo_line(line, colour=COLOURS.get(mark) if has_colours else None)


# --- One column -----------------------------------------------------------------------------------


def narrow_lines(found: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """(mark, line), as `diff -u` shows them."""
    yield "-", f"--- {describe_side(found['left'])}"
    yield "+", f"+++ {describe_side(found['right'])}"
    for group in group_hunks(found["hunks"]):
        yield "@", f"@@ -{range_of(group, 'left')} +{range_of(group, 'right')} @@"
        for hunk in group:
            if hunk["kind"] == "equal":
                yield from ((" ", f" {text}") for text in plain(hunk["right_lines"]))
            else:
                yield from marked("-", hunk["left_lines"], hunk["left"]["count"])
                yield from marked("+", hunk["right_lines"], hunk["right"]["count"])


def marked(mark: str, texts: Sequence[str], count: int) -> Iterator[tuple[str, str]]:
    """The lines of one side of a hunk. `count`: how many it has, of which `texts` are the first."""
    shown = [*plain(texts), *note_of_more(count - len(texts))]
    yield from ((mark, f"{mark}{text}") for text in shown)


def group_hunks(hunks: Sequence[Hunk]) -> Iterator[list[Hunk]]:
    """The hunks in groups between which equal lines are left out. Equal lines are shown at the
    beginning and at the end of a group, CONTEXT at most."""
    group: list[Hunk] = []
    for number, hunk in enumerate(hunks):
        if hunk["kind"] != "equal":
            group.append(hunk)
            continue
        is_last = number == len(hunks) - 1
        if group and not is_last and not hunk["folded"]:
            group.append(hunk)
            continue
        if group:
            yield [*group, part_of(hunk, 0, CONTEXT)]
        count = hunk["right"]["count"]
        group = [] if is_last else [part_of(hunk, max(0, count - CONTEXT), CONTEXT)]
    if group:
        yield group


def part_of(hunk: Hunk, begin: int, count: int) -> Hunk:
    """Some of the first or of the last lines of equal ones."""
    place = begin - hunk["folded"] if begin else 0  # among the lines that the hunk contains
    cut: dict[str, Any] = {"kind": "equal", "folded": 0}
    for side in ("left", "right"):
        texts = hunk[f"{side}_lines"][place : place + count]
        line = hunk[side]["line"]
        number = None if line is None else line + begin
        cut |= {f"{side}_lines": texts, side: {"line": number, "count": len(texts)}}
    return cut


def range_of(group: Sequence[Hunk], side: str) -> str:
    """The lines of a group as in `diff -u`: the number of the first, and how many there are."""
    count = sum(hunk[side]["count"] for hunk in group)
    line = group[0][side]["line"]
    return f"?,{count}" if line is None else f"{line if count else line - 1},{count}"


# --- Two columns ----------------------------------------------------------------------------------


def wide_lines(found: Mapping[str, Any], columns: int) -> Iterator[tuple[str, str]]:
    """(mark, line), as `diff -y` shows them, but without most of the equal lines."""
    width = (columns - len(" | ")) // 2

    def row(mark: str, left: str, right: str) -> tuple[str, str]:
        line = f"{pad_to(cut_to(left, width), width)} {mark} {cut_to(right, width)}"
        return mark, line.rstrip()

    yield row(" ", describe_side(found["left"]), describe_side(found["right"]))
    for group in group_hunks(found["hunks"]):
        yield "@", f"@@ -{range_of(group, 'left')} +{range_of(group, 'right')} @@"
        for hunk in group:
            left, right = plain(hunk["left_lines"]), plain(hunk["right_lines"])
            if hunk["kind"] == "equal":
                yield from (row(" ", *pair) for pair in zip(left, right, strict=True))
                continue
            left += note_of_more(hunk["left"]["count"] - len(left))
            right += note_of_more(hunk["right"]["count"] - len(right))
            for one, other in zip_longest(left, right):
                yield row(mark_between(one, other), one or "", other or "")


def mark_between(left: str | None, right: str | None) -> str:
    """The mark of `diff -y` between two lines that differ; None: there is no line on that side."""
    if right is None:
        return "<"
    if left is None:
        return ">"
    return "|"


# --- Both -----------------------------------------------------------------------------------------


def describe_side(side: Mapping[str, Any]) -> str:
    return f"{side['id']} {side['title']} ({side['status']})"


def plain(texts: Iterable[str]) -> list[str]:
    """The texts of lines with spaces instead of tabs."""
    return [text.expandtabs(TAB) for text in texts]


def note_of_more(count: int) -> list[str]:
    """A line that replaces so many lines which the server has left out; none for 0."""
    return [f"[{count:,} more {'line' if count == 1 else 'lines'}]"] if count else []
