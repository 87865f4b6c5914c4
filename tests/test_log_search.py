"""Searching one log: forwards, by regular expression, matching case, and where all matches are."""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import Any

import pytest
from conftest import JobMaker
from flask.testing import FlaskClient
from web import is_problem

from tailboard.forward_search import ForwardSearch
from tailboard.logs import FileLog
from tailboard.matching import RegexMatcher, TextMatcher

NUMBERED = b"".join(b"line %d:\n" % n for n in range(1, 100_001))


@pytest.fixture
def make(folder: Path) -> JobMaker:
    return JobMaker(folder)


def ask(client: FlaskClient, job_id: str, **query: Any) -> dict[str, Any]:
    response = client.get(f"/jobs/{job_id}/logs", query_string=query)
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json
    return answer


def lines(client: FlaskClient, job_id: str, **query: Any) -> list[int]:
    return [match["line"] for match in ask(client, job_id, **query)["matches"]]


def test_a_search_goes_forwards_from_an_offset(client: FlaskClient, make: JobMaker) -> None:
    job_id = make.ended(NUMBERED)
    assert lines(client, job_id, q="50000:", after=0) == [50_000]
    assert lines(client, job_id, q="50000:", after=NUMBERED.index(b"line 50000:")) == [50_000]
    assert lines(client, job_id, q="50000:", after=NUMBERED.index(b"line 50000:") + 1) == []
    assert lines(client, job_id, q="0000:", after=NUMBERED.index(b"line 99999:")) == [100_000]
    assert lines(client, job_id, q="0000:", before=NUMBERED.index(b"line 50000:")) == [
        *(40_000, 30_000, 20_000, 10_000)
    ]
    assert lines(client, job_id, q="0000:", after=len(NUMBERED)) == []


def test_a_forward_search_continues_where_it_stopped(client: FlaskClient, make: JobMaker) -> None:
    job_id = make.ended(NUMBERED)
    got: list[int] = []
    after: int | None = 0
    while after is not None:
        answer = ask(client, job_id, q="00:", after=after, limit=99)
        got += [match["line"] for match in answer["matches"]]
        after = answer["next"]
    assert got == list(range(100, 100_001, 100))


def test_the_places_of_all_matches_are_counted(client: FlaskClient, make: JobMaker) -> None:
    job_id = make.ended(NUMBERED)
    found = ask(client, job_id, q="0000:", places=1, upto=NUMBERED.index(b"line 50000:"))
    assert (found["lines"], found["lines_before"], found["complete"]) == (10, 4, True)
    assert found["places"] == [NUMBERED.index(b"line %d0000:" % n) for n in range(1, 11)]
    every = ask(client, job_id, q="LINE", places=1)
    assert (every["lines"], every["lines_before"]) == (100_000, None)
    assert 500 <= len(every["places"]) <= 1_000 and every["places"] == sorted(every["places"])
    assert every["places"][0] == 0 and every["places"][-1] > 0.99 * len(NUMBERED)
    assert ask(client, job_id, q="absent", places=1, upto=9) == {
        "lines": 0,
        "lines_before": 0,
        "places": [],
        "complete": True,
    }


def test_a_count_that_is_cut_off_reports_it(
    client: FlaskClient, make: JobMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tailboard.web.log_search.SEARCH_TIME", -1.0)
    found = ask(client, make.ended(b"x\n"), q="x", places=1, upto=1)
    assert (found["lines_before"], found["complete"]) == (None, False)
    assert ask(client, make.ended(b"x\n"), q="x", after=0) == {"matches": [], "next": 0}


def test_case_can_matter(client: FlaskClient, make: JobMaker) -> None:
    job_id = make.ended(b"Error\nerror\nERROR\n")
    assert lines(client, job_id, q="error") == [3, 2, 1]
    assert lines(client, job_id, q="error", case=1) == [2]
    assert lines(client, job_id, q="Err.r", case=1, regex=1, after=0) == [1]
    assert lines(client, job_id, q="err.r", regex=1, after=0) == [1, 2, 3]
    assert ask(client, job_id, q="ERROR", case=1, count=1)["count"] == 1


def test_a_regular_expression_matches_within_a_line(client: FlaskClient, make: JobMaker) -> None:
    content = "one\ntwo 22\n\nthree\nvier é日\nsix".encode()
    job_id = make.ended(content)
    for pattern, expected in {
        "^t": [2, 4],
        "e$": [1, 4],
        r"\d+": [2],
        "^$": [3],
        r"e\s+t": [],
        "[^x]+": [1, 2, 4, 5, 6],
        "é.$": [5],
        "one|six": [1, 6],
        r"one\ntwo": [],
        "x*": [1, 2, 3, 4, 5, 6],
    }.items():
        query = {"q": pattern, "regex": 1}
        assert lines(client, job_id, **query, after=0) == expected, pattern
        assert lines(client, job_id, **query) == expected[::-1], pattern
        assert ask(client, job_id, **query, places=1)["lines"] == len(expected), pattern
    assert ask(client, job_id, q="[a-z]+", regex=1, count=1)["count"] == 5


def test_a_wrong_regular_expression_is_a_400(client: FlaskClient, make: JobMaker) -> None:
    job_id = make.ended(b"x\n")
    for pattern, why in {
        "(": "missing )",
        "a)|(b": "unexpected )",
        "[z-a]": "invalid character class range",
        r"(a)\1": "invalid escape sequence",
        "(?=x)": "invalid perl operator",
        "(((x{50}){50}){50})": "",
        r"\pL{500}": "pattern too large",
    }.items():
        response = client.get(f"/jobs/{job_id}/logs", query_string={"q": pattern, "regex": 1})
        is_problem(response, 400, "q must be a regular expression (RE2 syntax): ", why)


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("regex=1", "regex needs q"),
        ("places=1", "places needs q"),
        ("q=x&upto=1", "upto needs places=1"),
        ("q=x&after=1&before=2", "use only one of before and after"),
        ("q=x&count=1&places=1", "use only one of count and places"),
        ("q=x&after=-1", "after must be a whole number of bytes"),
        ("q=x&case=2", "case must be 0 or 1"),
    ],
)
def test_parameters_that_do_not_go_together_are_a_400(
    client: FlaskClient, make: JobMaker, query: str, message: str
) -> None:
    is_problem(client.get(f"/jobs/{make.ended(b'')}/logs?{query}"), 400, message)


def test_binary_and_malformed_text_can_be_searched(client: FlaskClient, make: JobMaker) -> None:
    job_id = make.ended(b"\xff\xfe\0needle\xc3\n" + bytes(range(256)) * 9 + b"\nneedle\xe2\x82")
    for query in (
        {"q": "needle"},
        {"q": "n[e]+dle", "regex": 1},
        {"q": ".needle|^nee", "regex": 1},
    ):
        assert len(lines(client, job_id, **query)) == 2
        assert len(lines(client, job_id, **query, after=0)) == 2
        assert ask(client, job_id, **query, places=1)["lines"] == 2


def test_matches_in_a_very_long_line_are_one_line(client: FlaskClient, make: JobMaker) -> None:
    long = b"first\n" + b"needle " * 600_000 + b"\nneedle\n"
    job_id = make.ended(long)
    for query in ({"q": "needle"}, {"q": "needl[e]", "regex": 1}):
        assert ask(client, job_id, **query, places=1)["places"] == [6, long.rindex(b"needle")]
        assert [m["offset"] for m in ask(client, job_id, **query, after=0)["matches"]] == [
            *(6, long.rindex(b"needle"))
        ]
    assert ask(client, job_id, q="FIRST", after=1)["matches"] == []


def test_a_match_is_found_across_the_blocks_of_a_forward_search(tmp_path: Path) -> None:
    path = tmp_path / "output.log"
    for shift in range(1, 9):
        path.write_bytes(b"a" * ((1 << 20) - shift) + b"needle!" + b"b" * 99 + b"\n")
        with FileLog(str(path)) as log:
            found = ForwardSearch(log, TextMatcher("needle!"), 0, log.size, math.inf)
            assert list(found) == [(0, (1 << 20) - shift)]


def test_hostile_regular_expressions_take_time_in_proportion_to_the_log(tmp_path: Path) -> None:
    """Each of these would take hours with backtracking."""
    path = tmp_path / "output.log"
    path.write_bytes((b"a" * 30_000 + b"b\n") * 10)

    def seconds(matcher: RegexMatcher | TextMatcher) -> float:
        with FileLog(str(path)) as log:
            begun = time.thread_time()
            assert list(ForwardSearch(log, matcher, 0, log.size, math.inf)) == []
            return time.thread_time() - begun

    plain = min(seconds(RegexMatcher("[x-z]{3}")) for _ in range(3)) + 0.001
    for pattern in ("(a+)+$", "(a|aa)+$", "(a*)*c", "^(a|a?)+$", "(.*a){12}c"):
        assert seconds(RegexMatcher(pattern)) < 200 * plain, pattern
