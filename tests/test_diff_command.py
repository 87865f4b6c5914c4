"""`tailboard diff`, and the comparisons and explanations of the Python client."""

from __future__ import annotations

import re

import pytest
from command_site import Tailboard
from conftest import JobMaker, Processes, Site, on_a_terminal

from tailboard.client import ApiError, Client
from tailboard.explain import compare
from tailboard.status import Status

START = [f"step {letter}" for letter in "abcdefgh"]
GOOD = "\n".join([*START, "took 1 s", "uploading\tpart", "notify", "end"])
BAD = "\n".join([*START, "took 9 s", "disk full\x1b]0;title\x07", "rolled back", "notify"])


@pytest.fixture
def ids(tailboard: Tailboard) -> tuple[str, str]:
    maker = tailboard.job_maker
    good = maker.ended(GOOD.encode(), name="report")
    return good, maker.ended(BAD.encode(), Status.FAILED, name="report")


def test_the_log_of_a_failure_is_compared_with_the_last_success(
    tailboard: Tailboard, ids: tuple[str, str]
) -> None:
    good, bad = ids
    done = tailboard("diff", bad[-8:])
    assert done.exit_code == 1
    assert done.stdout.splitlines() == [
        f"--- {good} report (succeeded)",
        f"+++ {bad} report (failed)",
        "@@ -7,6 +7,6 @@",
        " step g",
        " step h",
        " took 9 s",
        "-uploading       part",
        "+disk full",
        "+rolled back",
        " notify",
        "-end",
    ]
    assert tailboard("diff", bad, good).stdout.splitlines()[0] == f"--- {bad} report (failed)"
    same = tailboard("diff", good[-8:], good)
    assert (same.exit_code, same.output) == (0, "")


def test_distant_differences_are_shown_without_the_lines_between_them(
    on_folder: Tailboard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compare, "MOST_IN_HUNK", 2)
    lines = [f"line {letter}" for letter in "abcdefghijklmnop"]
    old = on_folder.job_maker.ended("\n".join(["x", *lines]).encode())
    new = on_folder.job_maker.ended("\n".join([*lines[:-1], "y", "y", "y"]).encode())
    assert on_folder("diff", old, new).stdout.splitlines()[2:] == [
        "@@ -1,4 +1,3 @@",
        *("-x", " line a", " line b", " line c"),
        "@@ -14,4 +13,6 @@",
        *(" line m", " line n", " line o", "-line p", "+y", "+y", "+[1 more line]"),
    ]


def test_a_comparison_that_is_not_possible_is_an_error(
    tailboard: Tailboard, ids: tuple[str, str]
) -> None:
    good, bad = ids
    for words, sentence in (
        ([good], "Error: no earlier run of this command has succeeded in the last 14 days"),
        ([bad, "nothing"], "Error: no job has an ID that starts or ends with 'nothing'"),
    ):
        done = tailboard("diff", *words)
        assert (done.exit_code, done.stdout) == (1, "") and sentence in done.stderr


def test_on_a_wide_terminal_the_logs_are_side_by_side(
    job_maker: JobMaker, processes: Processes
) -> None:
    job_maker.ended(GOOD.replace("end", "漢字" * 40).encode(), name="report")
    bad = job_maker.ended(BAD.encode(), Status.FAILED, name="report")
    shown = on_a_terminal(processes, 120, "diff", bad, code=1)
    lines = re.sub(r"\x1b\[[0-9;]*m", "", shown).splitlines()
    assert lines[2] == f"{'step g':58}   step g"
    assert lines[5] == f"{'uploading       part':58} | disk full"
    assert lines[6] == f"{'':58} > rolled back"
    assert lines[8] == f"{'漢字' * 14}…  <"  # 58 columns
    assert "\x1b[33m" in shown and "title" not in shown
    narrow = on_a_terminal(processes, 80, "diff", bad, code=1)
    assert "\x1b[32m+disk full\x1b[0m" in narrow


def test_the_client_returns_whole_comparisons_and_explanations(
    job_maker: JobMaker, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    long = b"".join(b"line %x\n%x\n" % (n, n) for n in range(2_500))
    one = site.job_maker.ended(long, name="client")
    other = site.job_maker.ended(long.replace(b"line", b"text"), Status.FAILED, name="client")
    with Client(site.url, "") as client:
        found = client.diff(other)
        assert (found["left"]["id"], found["partial"], found["more"]) == (one, False, False)
        changed = [hunk for hunk in found["hunks"] if hunk["kind"] == "changed"]
        assert sum(hunk["right"]["count"] for hunk in changed) == 2_500
        assert client.diff(one, one)["same"] is True
        assert client.explanation(other, "sections")["sections"]["count"] == 0
        with pytest.raises(ApiError, match="no earlier run") as caught:
            client.diff(one)
        assert caught.value.status == 404
