"""Comparing the logs of two runs line by line."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import pytest
from conftest import JobMaker
from flask.testing import FlaskClient
from web import UNKNOWN, is_problem

from tailboard.explain import compare, line_match
from tailboard.explain.line_match import LineMatcher, Match
from tailboard.log_limit import trim_ended_log
from tailboard.status import Status
from tailboard.values import BLOCK

# --- Which lines match ----------------------------------------------------------------------------


def matches(left: Sequence[int], right: Sequence[int]) -> list[Match]:
    """What the matcher finds; each must be right and after the one before it."""
    found = LineMatcher(left, right).matches()
    at_left = at_right = 0
    for match in found:
        assert match.left >= at_left and match.right >= at_right and match.lines > 0
        at_left, at_right = match.left + match.lines, match.right + match.lines
        assert left[match.left : at_left] == right[match.right : at_right]
    return found


@pytest.mark.parametrize(
    ("left", "right", "expected"),
    [
        ("", "", []),
        ("a", "", []),
        ("", "a", []),
        ("abc", "abc", [(0, 0, 3)]),
        ("abc", "xyz", []),
        ("abcd", "abxcd", [(0, 0, 2), (2, 3, 2)]),
        ("abxcd", "abcd", [(0, 0, 2), (3, 2, 2)]),
        ("axc", "ayc", [(0, 0, 1), (2, 2, 1)]),
        ("bcda", "abcd", [(0, 1, 3)]),  # a line that has moved
        ("xaaay", "zaaaaw", [(1, 1, 3)]),  # no line is unique
        ("abababxabab", "ababab!abab", [(0, 0, 6), (7, 7, 4)]),
    ],
)
def test_the_common_lines_are_found(
    left: str, right: str, expected: list[tuple[int, int, int]]
) -> None:
    assert matches(list(map(ord, left)), list(map(ord, right))) == expected


@pytest.mark.parametrize("most_cells", [0, 40_000])
@pytest.mark.parametrize("kinds", [2, 20, 2_000])
def test_few_changes_in_many_lines_leave_the_others_matched(
    kinds: int, most_cells: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(line_match, "MOST_CELLS", most_cells)
    choose = random.Random(1)
    left = [choose.randrange(kinds) for _ in range(2_000)]
    right = left.copy()
    for place in choose.sample(range(2_000), 20):
        right[place] = -place
    assert sum(match.lines for match in matches(left, right)) >= 1_900


def test_the_rest_counts_as_different_once_too_many_steps_are_taken(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(line_match, "MOST_STEPS", 2_000)
    choose = random.Random(1)
    left, right = ([choose.randrange(30) for _ in range(10_000)] for _ in range(2))
    matcher = LineMatcher(left, right)
    assert matcher.matches() == matches(left, right)
    assert matcher._steps > -30_000


# --- GET /jobs/ID/diff ----------------------------------------------------------------------------

GOOD = b"""\
2026-11-29T02:00:01Z start
applying 0042_add_index
applying 0043_orders
took 12.3 s
cleaning up
done
"""
BAD = b"""\
2026-11-30T02:00:01Z start
applying 0042_add_index
\x1b[31mdeadlock detected\x1b[0m
applying 0043_orders
took 14.9 s
cleaning up <b>
"""


def diff(client: FlaskClient, job_id: str, **query: Any) -> Any:
    answer = client.get(f"/jobs/{job_id}/diff", query_string=query)
    assert answer.status_code == 200, answer.text
    found = answer.get_json()
    assert found["partial"] is False
    return found


def kinds(found: Any) -> list[tuple[str, int, int]]:
    return [
        (hunk["kind"], hunk["left"]["count"], hunk["right"]["count"]) for hunk in found["hunks"]
    ]


def test_a_failure_is_compared_with_the_last_earlier_success(
    client: FlaskClient, job_maker: JobMaker
) -> None:
    job_maker.ended(b"an older success\n", name="migrate")
    good = job_maker.ended(GOOD, name="migrate")
    job_maker.ended(b"another job\n", name="backup")
    job_maker.ended(b"a failure\n", Status.FAILED, name="migrate")
    bad = job_maker.ended(BAD, Status.FAILED, name="migrate")
    job_maker.ended(b"a later success\n", name="migrate")
    found = diff(client, bad)
    left, right = found["left"], found["right"]
    assert (left["id"], left["status"], left["lines"], left["cut"]) == (good, "succeeded", 6, False)
    assert (right["id"], right["status"], right["title"]) == (bad, "failed", "migrate")
    assert kinds(found) == [("equal", 2, 2), ("added", 0, 1), ("equal", 2, 2), ("changed", 2, 1)]
    assert (found["same"], found["more"]) == (False, False)
    added, changed = found["hunks"][1], found["hunks"][3]
    assert added["right_lines"] == ["deadlock detected"] and added["left_lines"] == []
    assert added["left"] == {"line": 3, "offset": GOOD.index(b"applying 0043"), "count": 0}
    assert added["right"] == {"line": 3, "offset": BAD.index(b"\x1b"), "count": 1}
    assert changed["left_lines"] == ["cleaning up", "done"]
    assert changed["right_lines"] == ["cleaning up <b>"]
    assert found["hunks"][2]["left_lines"][1] == "took 12.3 s"
    assert found["hunks"][2]["right_lines"][1] == "took 14.9 s"


def test_any_two_jobs_can_be_compared(client: FlaskClient, job_maker: JobMaker) -> None:
    one, other = job_maker.ended(b"a 1\nb\n"), job_maker.ended(b"a 2\nb")
    empty, queued = job_maker.ended(), job_maker.queued().id
    assert diff(client, one, **{"with": other})["same"] is True
    assert kinds(diff(client, one, **{"with": one})) == [("equal", 2, 2)]
    assert kinds(diff(client, one, **{"with": queued})) == [("added", 0, 2)]
    assert kinds(diff(client, empty, **{"with": one})) == [("removed", 2, 0)]
    assert diff(client, empty, **{"with": queued})["hunks"] == []


def test_of_a_running_job_its_finished_lines_are_compared(
    client: FlaskClient, job_maker: JobMaker
) -> None:
    job_maker.ended(b"a\nb\n", name="job")
    held = job_maker.running(b"a\nb", name="job")
    job_id = held.job.id
    assert kinds(diff(client, job_id)) == [("equal", 1, 1), ("removed", 1, 0)]
    job_maker.write(held, b"\nc\n")
    assert kinds(diff(client, job_id)) == [("equal", 2, 2), ("added", 0, 1)]
    job_maker.log(job_id).write_bytes(b"x\n")  # the job truncates its own log
    assert kinds(diff(client, job_id)) == [("changed", 2, 1)]
    job_maker.finish(held)


def test_wrong_requests_are_explained(client: FlaskClient, job_maker: JobMaker) -> None:
    job_id = job_maker.ended(GOOD)
    path = f"/jobs/{job_id}/diff"
    is_problem(client.get(path), 404, "no earlier run of this command has succeeded")
    is_problem(client.get(f"{path}?with={UNKNOWN}"), 404, UNKNOWN)
    is_problem(client.get(f"/jobs/{UNKNOWN}/diff"), 404, UNKNOWN)
    is_problem(client.get(f"{path}?with=abc"), 400, "with must be the ID of a job")
    is_problem(client.get(f"{path}?from=-1"), 400, "from must be a whole number")
    is_problem(client.get(f"{path}?begin=1"), 400, "allowed fields: with, from, ticket")


def test_long_equal_parts_are_folded_and_the_answer_continues(
    client: FlaskClient, job_maker: JobMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compare, "MOST_TEXTS", 18)
    monkeypatch.setattr(compare, "MOST_IN_HUNK", 5)
    same = [f"same {letter * 9}" for letter in "abcdefghij"]
    left = [*same, *(f"old {letter}" for letter in "stuvwxyz"), "end"]
    right = [*same, "new", "end", "more"]
    one = job_maker.ended("\n".join(left).encode())
    other = job_maker.ended("\n".join(right).encode())
    found = diff(client, other, **{"with": one})
    assert kinds(found) == [("equal", 10, 10), ("changed", 8, 1)] and found["more"] is True
    equal, changed = found["hunks"]
    assert equal["left_lines"] == equal["right_lines"] == [*same[:3], *same[-3:]]
    assert equal["folded"] == 4
    assert equal["left_offsets"] == ["\n".join(left).index(line) for line in equal["left_lines"]]
    assert changed["right_offsets"] == ["\n".join(right).index("new")]
    assert changed["left_lines"] == left[10:15] and changed["right_lines"] == ["new"]
    assert changed["folded"] == 3
    rest = diff(client, other, **{"with": one, "from": 2})
    assert kinds(rest) == [("equal", 1, 1), ("added", 0, 1)] and rest["more"] is False
    assert rest["hunks"][1]["right"] == {
        "line": 13,
        "offset": len("\n".join(right)) - 4,
        "count": 1,
    }


def test_lines_whose_text_could_not_be_read_in_time_are_in_the_next_answer(
    client: FlaskClient, job_maker: JobMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_maker.ended(b"".join(b"same %s\nleft\n" % (b"x" * n) for n in range(10)), name="job")
    right = b"".join(b"same %s\nright\n" % (b"x" * n) for n in range(10))
    job_id = job_maker.ended(right, Status.FAILED, name="job")
    monkeypatch.setattr(compare, "TEXT_TIME", 0.0)
    first = diff(client, job_id)
    assert kinds(first) == [("equal", 1, 1)] and first["more"]
    monkeypatch.setattr(compare, "TEXT_TIME", 60.0)
    rest = diff(client, job_id, **{"from": 1})
    texts = [text for hunk in rest["hunks"] for text in hunk["right_lines"]]
    assert b"\n".join(text.encode() for text in texts) == right.strip().partition(b"\n")[2]


def test_the_common_beginning_of_long_logs_does_not_count(
    client: FlaskClient, job_maker: JobMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compare, "MOST_LINES", 3_000)
    common = b"".join(b"line %x\n" % number for number in range(10_000))
    one = job_maker.ended(common + b"".join(b"old %d\n" % number for number in range(3_001)))
    other = job_maker.ended(common + b"new\n")
    found = diff(client, other, **{"with": one})
    equal, changed = found["hunks"]
    assert (equal["kind"], equal["folded"], changed["kind"]) == ("equal", 9_994, "changed")
    assert equal["right_offsets"][-1] == common.index(b"line 270f\n")
    assert equal["left_lines"] == [
        "line 0",
        "line 1",
        "line 2",
        "line 270d",
        "line 270e",
        "line 270f",
    ]
    assert changed["right"] == {"line": 10_001, "offset": len(common), "count": 1}
    assert (found["left"]["cut"], found["right"]["cut"]) == (True, False)
    assert changed["left"]["count"] < 3_001 and found["right"]["lines"] == 10_001


def test_the_lines_of_a_log_whose_beginning_was_deleted_have_no_numbers(
    client: FlaskClient, job_maker: JobMaker
) -> None:
    job_id = job_maker.ended(b"aaa\n" * 50_000)
    assert trim_ended_log(str(job_maker.log(job_id)), 2 * BLOCK) > 0
    other = job_maker.ended(b"aaa\n" * 9_000 + b"b\n")
    found = diff(client, job_id, **{"with": other})
    assert found["right"]["lines"] == 50_000 - BLOCK // 4
    assert {hunk["right"]["line"] for hunk in found["hunks"]} == {None}
    assert found["hunks"][0]["right"]["offset"] == BLOCK
    assert found["hunks"][1]["left"]["line"] == 9_001
