"""Logs over HTTP: every byte arrives once and in order, and memory and files stay bounded."""

from __future__ import annotations

import json
import math
import os
import random
import re
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
import requests
from conftest import BY_WORKER, PROGRAMS, Gate, JobMaker, Site, need, serve_site, wait_until
from flask.testing import FlaskClient
from web import EVENTS, UNKNOWN, Stream, admitted, admitted_answer, follow, is_problem, stalled

from tailboard.folder.claim import Claim
from tailboard.journal import Outcome
from tailboard.logs import FileLog
from tailboard.matching import TextMatcher, last_match_finder
from tailboard.status import Status
from tailboard.web import line_counts

TICK = 0.011  # seconds: the kernel stamps files by a clock that ticks 100 to 1,000 times a second
MANY = 150_000_000  # bytes of a log that no request may keep in memory


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """At most two followers, and logs of which a MiB is kept."""
    limits = {"TAILBOARD_FOLLOWERS": "2", "TAILBOARD_LOG_MAX_BYTES": str(1 << 20)}
    base = tmp_path_factory.mktemp("small")
    with serve_site(base, "tailboard.web.log_follow.KEEPALIVE_INTERVAL=1.1", **limits) as site:
        site.processes.worker("--slots=2", f"--queues={BY_WORKER}")
        yield site


@pytest.fixture
def job_maker(site: Site) -> JobMaker:
    return site.job_maker


@pytest.fixture
def running(job_maker: JobMaker) -> Iterator[Claim]:
    """A running job whose log the test writes."""
    running = job_maker.running()
    yield running
    if running.job.status is Status.RUNNING:
        job_maker.finish(running)


def parse(data: bytes) -> list[dict[str, str]]:
    """The complete events in a stream."""
    events = []
    for block in data.split(b"\n\n")[:-1]:
        fields = [line.partition(": ") for line in block.decode().split("\n")]
        events.append({name: value for name, _, value in fields})
    return events


def text_of(events: list[dict[str, str]]) -> str:
    return "".join(json.loads(e["data"]) for e in events if "data" in e and "event" not in e)


def numbers(answer: requests.Response) -> tuple[int, int, int]:
    """Offset, next and size of a part."""
    names = ("X-Log-Offset", "X-Log-Next", "X-Log-Size")
    offset, following, size = (int(answer.headers[name]) for name in names)
    return offset, following, size


def check_headers(answer: requests.Response, status: str, complete: bool) -> None:
    offset, following, size = numbers(answer)
    assert 0 <= offset <= following <= size
    assert following - offset == len(answer.content)
    assert answer.headers["X-Job-Status"] == status
    assert answer.headers["X-Log-Complete"] == str(complete).lower()
    assert complete == (following == size and status not in ("queued", "running"))
    assert answer.headers["ETag"]
    assert answer.headers["Content-Type"] == "text/plain; charset=utf-8"
    assert answer.headers["Cache-Control"] == "no-cache"


# --- The end, and parts ---------------------------------------------------------------------------


def test_without_parameters_the_last_1000_lines_are_returned(
    site: Site, job_maker: JobMaker
) -> None:
    lines = [f"line {n}\n".encode() for n in range(1_500)]
    job_id = job_maker.ended(b"".join(lines))
    answer = site.get(f"/jobs/{job_id}/logs")
    assert answer.content == b"".join(lines[500:])
    check_headers(answer, "succeeded", True)
    assert numbers(answer)[2] == len(b"".join(lines))


@pytest.mark.parametrize("end", [b"\n", b"", b"\r", b"\n\n"])
def test_a_tail_counts_an_unfinished_last_line(site: Site, job_maker: JobMaker, end: bytes) -> None:
    content = b"a\nb\n\xe6\x97\xa5\nlast" + end
    job_id = job_maker.ended(content)
    lines = re.findall(rb"[^\n]*\n|[^\n]+", content)
    for tail in range(7):
        answer = site.get(f"/jobs/{job_id}/logs?tail={tail}")
        assert answer.content == b"".join(lines[max(0, len(lines) - tail) :]), tail
        check_headers(answer, "succeeded", True)


def test_a_tail_of_an_endless_line_is_at_most_1_mib(site: Site, job_maker: JobMaker) -> None:
    content = b"".join(b"\r%d %%" % n for n in range(400_000))
    job_id = job_maker.ended(content)
    answer = site.get(f"/jobs/{job_id}/logs")
    assert answer.content == content[-(1 << 20) :]
    check_headers(answer, "succeeded", True)


def test_parts_read_by_offset_add_up_to_the_log(site: Site, job_maker: JobMaker) -> None:
    content = random.Random(1).randbytes(700_000)
    job_id = job_maker.ended(content)
    for limit in (None, 100_000, 4 << 20):
        got, sizes = b"", []
        while True:
            part = f"&limit_bytes={limit}" if limit else ""
            answer = site.get(f"/jobs/{job_id}/logs?offset={len(got)}{part}")
            assert numbers(answer)[0] == len(got)
            got += answer.content
            sizes.append(len(answer.content))
            check_headers(answer, "succeeded", len(got) == len(content))
            if answer.headers["X-Log-Complete"] == "true":
                break
        assert got == content
        assert max(sizes) <= (limit or 256 << 10)


def test_japanese_can_be_read_one_byte_at_a_time(site: Site, job_maker: JobMaker) -> None:
    content = "日本語🎉\n".encode() + b"\xe6\x97"
    job_id = job_maker.ended(content)
    for limit in (1, 2, 3, 4):
        got = b""
        while len(got) < len(content):
            answer = site.get(f"/jobs/{job_id}/logs?offset={len(got)}&limit_bytes={limit}")
            assert 0 < len(answer.content) <= limit
            got += answer.content
        assert got == content


def test_a_partial_character_is_held_back_until_it_is_complete(
    site: Site, job_maker: JobMaker, running: Claim
) -> None:
    whole = "日🎉".encode()
    path, got = f"/jobs/{running.job.id}/logs?offset=", b""
    for n in range(len(whole)):
        job_maker.write(running, whole[n : n + 1])
        answer = site.get(f"{path}{len(got)}")
        assert numbers(answer) == (len(got), len(got) + len(answer.content), n + 1)
        assert answer.headers["X-Log-Complete"] == "false"
        got += answer.content
        assert got == whole[: 0 if n < 2 else 3 if n < 6 else 7]
    job_maker.write(running, "語".encode()[:2])
    assert site.get(f"{path}{len(got)}").content == b""
    assert site.get(f"/jobs/{running.job.id}/logs").content == whole
    job_maker.finish(running)
    answer = site.get(f"{path}{len(got)}")
    assert answer.content == "語".encode()[:2]  # it never became complete
    check_headers(answer, "succeeded", True)


def test_a_polling_client_gets_every_random_byte(served: Site) -> None:
    job_id = served.submit("for i in 1 2 3 4 5 6 7 8; do head -c 300001 /dev/urandom; done")
    path, got, whole = f"/jobs/{job_id}/logs?offset=", bytearray(), False

    def poll() -> bool:
        answer = served.get(f"{path}{len(got)}&limit_bytes=99999")
        assert numbers(answer)[0] == len(got)
        got.extend(answer.content)
        assert numbers(answer)[1] == len(got)
        return answer.headers["X-Log-Complete"] == "true"

    while not whole:
        whole = poll() or (len(got) == 0 and wait_until(poll))
    assert served.get(f"/jobs/{job_id}").json()["log_size"] == len(got) == 8 * 300_001
    assert bytes(got) == served.job_maker.log(job_id).read_bytes()


def test_a_log_is_a_304_until_it_grows_or_its_job_ends(
    site: Site, job_maker: JobMaker, running: Claim
) -> None:
    job_maker.write(running, b"one\n")
    path = f"/jobs/{running.job.id}/logs"

    def poll(tag: str) -> requests.Response:
        return site.get(path, headers={"If-None-Match": tag})

    first = site.get(path)
    tag = first.headers["ETag"]
    same = poll(tag)
    assert (same.status_code, same.content, same.headers["ETag"]) == (304, b"", tag)
    assert poll(f'"other", {tag}').status_code == 304
    job_maker.write(running, b"two\n")
    grown = poll(tag)
    assert (grown.status_code, grown.content) == (200, b"one\ntwo\n")
    tag = grown.headers["ETag"]
    assert poll(tag).status_code == 304
    job_maker.finish(running)
    ended = poll(tag)
    assert ended.status_code == 200
    check_headers(ended, "succeeded", True)
    assert poll(ended.headers["ETag"]).status_code == 304


WRONG = """tail=-1 tail=x tail=1.5 tail= tail=1000001 offset=-1 offset=x offset= limit_bytes=0
limit_bytes=4194305 limit_bytes=x since=x since= since=30 since=-5s since=5w since=2026-11-23
since=18:00 since=2026-11-23T18:00:00 since=2026-13-01T00:00:00Z since=99999999999s timestamps=2
follow=x download= q= limit=0 limit=1001 before=-1 before=x offset=99999999999999999999""".split()


@pytest.mark.parametrize("query", [*WRONG, "q=%0A", "q=" + "x" * 201, "tail=" + "9" * 4_000])
def test_an_invalid_parameter_is_named(site: Site, query: str) -> None:
    details = is_problem(site.get(f"/jobs/{UNKNOWN}/logs?{query}"), 400)
    assert details["detail"].startswith(f"{query.partition('=')[0]} must be "), details


@pytest.mark.parametrize(
    "query",
    ["tail=1&offset=0", "offset=0&since=1s", "tail=1&since=1s", "q=x&tail=1", "line=1&offset=0"],
)
def test_parameters_for_a_position_exclude_each_other(site: Site, query: str) -> None:
    is_problem(site.get(f"/jobs/{UNKNOWN}/logs?{query}"), 400, "use only one of")


def test_a_response_has_the_number_of_its_first_line(site: Site, job_maker: JobMaker) -> None:
    job_id = job_maker.ended(b"".join(b"line %d\n" % n for n in range(1, 5_001)))
    tail = site.get(f"/jobs/{job_id}/logs?tail=10")
    assert (tail.text.split("\n")[0], tail.headers["X-Log-Line"]) == ("line 4991", "4991")
    for offset, line in ((0, 1), (3, 1), (7, 2), (int(tail.headers["X-Log-Offset"]) + 2, 4991)):
        answer = site.get(f"/jobs/{job_id}/logs?offset={offset}")
        assert answer.headers["X-Log-Line"] == str(line)


def test_a_log_can_be_read_from_a_line_on(site: Site, job_maker: JobMaker) -> None:
    lines = [b"line %d\n" % n for n in range(1, 300_001)]
    logs = f"/jobs/{job_maker.ended(b''.join([*lines, b'unfinished']))}/logs"
    for line in (1, 2, 299_999, 150_000, 300_000, 3):  # in both directions from what is counted
        answer = site.get(f"{logs}?line={line}&limit_bytes=20")
        assert answer.text.startswith(f"line {line}\n")
        assert answer.headers["X-Log-Line"] == str(line)
    assert site.get(f"{logs}?line=300001").text == "unfinished"
    is_problem(site.get(f"{logs}?line=300002"), 416, "line must be at most 300001, the number of")
    is_problem(site.get(f"{logs}?line=0"), 400, "line must be")
    ended = f"/jobs/{job_maker.ended(b'one' + bytes([10]))}/logs"
    assert site.get(f"{ended}?line=1").text == "one\n"
    is_problem(site.get(f"{ended}?line=2"), 416, "line must be at most 1")
    empty = f"/jobs/{job_maker.ended(b'')}/logs"
    assert site.get(f"{empty}?line=1").content == b""
    is_problem(site.get(f"{empty}?line=2"), 416, "line must be at most 0")


def test_an_offset_past_the_end_is_a_416(site: Site, job_maker: JobMaker, running: Claim) -> None:
    ended = f"/jobs/{job_maker.ended(b'text')}/logs"
    assert site.get(f"{ended}?offset=4").content == b""
    is_problem(site.get(f"{ended}?offset=5"), 416, "offset", "4")
    is_problem(site.get(f"/jobs/{job_maker.queued().id}/logs?offset=1"), 416)
    path = f"/jobs/{running.job.id}/logs"
    assert site.get(f"{path}?offset=0").status_code == 200
    for query in ("offset=1", "offset=1&follow=1", f"offset={1 << 62}"):
        is_problem(site.get(f"{path}?{query}"), 416, "offset", "0")
    answer = site.get(f"{path}?follow=1", headers=EVENTS | {"Last-Event-ID": "7"})
    is_problem(answer, 416)


# --- The whole file -------------------------------------------------------------------------------


def test_a_download_is_the_whole_file_as_an_attachment(site: Site, job_maker: JobMaker) -> None:
    content = random.Random(2).randbytes(3_000_000)
    job_id = job_maker.ended(content)
    answer = site.get(f"/jobs/{job_id}/logs?download=1")
    assert answer.status_code == 200
    assert answer.content == content
    assert answer.headers["Content-Length"] == str(len(content))
    assert answer.headers["Content-Disposition"] == f"attachment; filename={job_id}.log"
    assert answer.headers["Accept-Ranges"] == "bytes"
    assert numbers(answer) == (0, len(content), len(content))
    assert answer.headers["X-Log-Complete"] == "true"
    named = job_maker.ended(b"x", name="../nightly import: día")
    answer = site.get(f"/jobs/{named}/logs?download=1")
    name = f"attachment; filename=nightly-import-d-a-{named}.log"
    assert answer.headers["Content-Disposition"] == name


@pytest.mark.parametrize(
    ("wanted", "begin", "end"),
    [
        ("bytes=0-0", 0, 1),
        ("bytes=5-9", 5, 10),
        ("bytes=990-", 990, 1_000),
        ("bytes=-7", 993, 1_000),
        ("bytes=0-", 0, 1_000),
        ("bytes=900-5000", 900, 1_000),
        ("bytes=-5000", 0, 1_000),
        ("bytes=3-4,8-9", 3, 5),
    ],
)
def test_a_range_of_a_download_is_a_206(
    site: Site, job_maker: JobMaker, wanted: str, begin: int, end: int
) -> None:
    content = random.Random(3).randbytes(1_000)
    job_id = job_maker.ended(content)
    answer = site.get(f"/jobs/{job_id}/logs?download=1", headers={"Range": wanted})
    assert answer.status_code == 206
    assert answer.headers["Content-Range"] == f"bytes {begin}-{end - 1}/1000"
    assert answer.headers["Content-Length"] == str(end - begin)
    assert answer.content == content[begin:end]


@pytest.mark.parametrize("wanted", ["bytes=1000-", "bytes=5000-6000"])
def test_a_range_past_the_end_is_a_416(site: Site, job_maker: JobMaker, wanted: str) -> None:
    job_id = job_maker.ended(b"x" * 1_000)
    answer = site.get(f"/jobs/{job_id}/logs?download=1", headers={"Range": wanted})
    is_problem(answer, 416)
    assert answer.headers["Content-Range"] == "bytes */1000"


@pytest.mark.parametrize(
    "wanted", ["lines=0-5", "bytes", "bytes=", "bytes=x-y", "bytes=9-5", "=", "日"]
)
def test_an_unsupported_range_returns_the_whole_log(
    site: Site, job_maker: JobMaker, wanted: str
) -> None:
    """RFC 9110, 14.2: a server ignores an unknown unit and may ignore what is not valid."""
    job_id = job_maker.ended(b"x" * 1_000)
    headers = {"Range": wanted.encode()}
    answer = site.get(f"/jobs/{job_id}/logs?download=1", headers=headers)
    assert (answer.status_code, len(answer.content)) == (200, 1_000)


def test_a_range_of_a_log_that_may_have_changed_returns_the_whole_log(
    site: Site, job_maker: JobMaker
) -> None:
    job_id = job_maker.ended(b"x" * 1_000)
    headers = {"Range": "bytes=0-4", "If-Range": '"old"'}
    answer = site.get(f"/jobs/{job_id}/logs?download=1", headers=headers)
    assert (answer.status_code, len(answer.content)) == (200, 1_000)


def test_a_download_can_be_resumed_unless_the_log_has_grown(
    site: Site, job_maker: JobMaker, running: Claim
) -> None:
    job_maker.write(running, b"0123456789")
    path = f"/jobs/{running.job.id}/logs?download=1"
    tag = site.get(path).headers["ETag"]
    headers = {"Range": "bytes=4-", "If-Range": tag}
    answer = site.get(path, headers=headers)
    assert (answer.status_code, answer.content) == (206, b"456789")
    job_maker.write(running, b"more")
    answer = site.get(path, headers=headers)
    assert (answer.status_code, answer.content) == (200, b"0123456789more")
    assert answer.headers["ETag"] != tag


def test_a_growing_log_is_downloaded_up_to_its_current_end(
    site: Site, job_maker: JobMaker, running: Claim
) -> None:
    path = f"/jobs/{running.job.id}/logs?download=1"
    empty = site.get(path)
    assert (empty.status_code, empty.content) == (200, b"")
    job_maker.write(running, b"half a li")
    answer = site.get(path)
    assert answer.content == b"half a li"
    assert answer.headers["X-Log-Complete"] == "false"


# --- Following ------------------------------------------------------------------------------------


def test_a_follower_gets_the_tail_then_new_output_then_the_end(
    site: Site, job_maker: JobMaker, running: Claim
) -> None:
    job_maker.write(running, b"before\n")
    stream = follow(site, running.job.id)
    assert stream.answer.headers["X-Job-Status"] == "running"
    assert stream.answer.headers["X-Accel-Buffering"] == "no"
    assert stream.answer.headers["Content-Type"] == "text/plain; charset=utf-8"
    stream.has(b"before\n")
    for n in range(20):
        job_maker.write(running, b"%d\n" % n)
        stream.has(b"\n%d\n" % n)
    job_maker.write(running, b"no newline")
    job_maker.finish(running)
    numbers = b"".join(b"%d\n" % n for n in range(20))
    assert stream.rest() == b"before\n" + numbers + b"no newline"


def test_events_carry_json_text_offsets_and_the_job_at_the_end(
    site: Site, job_maker: JobMaker, running: Claim
) -> None:
    job_maker.write(running, "前\r\n".encode())
    stream = follow(site, running.job.id, **EVENTS)
    assert stream.answer.headers["Content-Type"].startswith("text/event-stream")
    assert stream.answer.headers["Cache-Control"] == "no-cache"
    wait_until(lambda: text_of(parse(stream.data)) == "前\r\n")
    job_maker.write(running, "進捗 10%\r進捗 20%\r\u2028\0\x1b[31m🎉 no newline".encode())
    job_maker.finish(running, Status.FAILED, 3)
    events = parse(stream.rest())
    content = job_maker.log(running.job.id).read_bytes()
    assert text_of(events) == content.decode()
    ids = [int(event["id"]) for event in events if "id" in event]
    assert ids == sorted(ids) and ids[-1] == len(content)
    assert [event.get("event") for event in events].count("end") == 1
    assert events[-1]["event"] == "end"
    job = json.loads(events[-1]["data"])
    shown = site.get(f"/jobs/{running.job.id}").json()
    added = {"usual", "retention", "progress", "results", "results_partial"}
    assert shown.keys() - job.keys() == added
    assert job == {name: shown[name] for name in job}
    assert (job["status"], job["exit_code"]) == ("failed", 3)


def test_followers_learn_of_each_attempt(site: Site, job_maker: JobMaker) -> None:
    held = job_maker.running(b"first\n", retries=1, retry_delay=3_000)
    stream = follow(site, held.job.id, **EVENTS)
    stream.has(b"first")
    with held:
        held.requeue(Outcome(Status.FAILED, 7))
    stream.has(b"event: change")
    change = next(each for each in parse(stream.data) if each.get("event") == "change")
    job = json.loads(change["data"])
    assert (job["status"], job["attempt"], job["attempts"][0]["exit_code"]) == ("queued", 2, 7)
    stream.close()


@pytest.mark.parametrize("headers", [{}, EVENTS], ids=["plain", "events"])
def test_a_follower_of_a_finished_job_gets_its_log_at_once(
    site: Site, job_maker: JobMaker, headers: dict[str, str]
) -> None:
    for content in (b"", b"one\ntwo", b"x\n" * 100_000):
        stream = follow(site, job_maker.ended(content), "&offset=0", **headers)
        data = stream.rest()
        assert content.decode() == (text_of(parse(data)) if headers else data.decode())
        assert not headers or parse(data)[-1]["event"] == "end"


@pytest.mark.parametrize("headers", [{}, EVENTS], ids=["plain", "events"])
def test_a_follower_of_a_queued_job_sees_it_from_its_first_byte(
    site: Site, job_maker: JobMaker, headers: dict[str, str]
) -> None:
    job = job_maker.queued()
    stream = follow(site, job.id, **headers)
    assert stream.answer.headers["X-Job-Status"] == "queued"
    held = job_maker.start(job)
    job_maker.write(held, b"first ")
    stream.has(b"first ")
    job_maker.write(held, b"last")
    job_maker.finish(held)
    data = stream.rest()
    assert (text_of(parse(data)).encode() if headers else data) == b"first last"


def test_a_follower_of_a_queued_job_that_is_cancelled_ends(site: Site, job_maker: JobMaker) -> None:
    job = job_maker.queued()
    stream = follow(site, job.id, **EVENTS)
    assert site.post(f"/jobs/{job.id}/cancel").status_code == 202
    end = parse(stream.rest())[-1]
    assert (end["event"], json.loads(end["data"])["status"]) == ("end", "cancelled")


def test_a_follower_of_a_job_that_is_deleted_ends(
    site: Site, job_maker: JobMaker, running: Claim
) -> None:
    stream = follow(site, running.job.id)
    job_maker.finish(running)
    assert site.ask("DELETE", f"/jobs/{running.job.id}").status_code == 204
    assert stream.rest() == b""


def test_a_follower_stays_with_a_job_through_its_next_attempt(
    site: Site, job_maker: JobMaker
) -> None:
    held = job_maker.running(b"first attempt\n", retries=1)
    stream = follow(site, held.job.id)
    stream.has(b"first attempt\n")
    with held:
        job = held.requeue(Outcome(Status.FAILED, 1))
    held = job_maker.start(job)
    job_maker.write(held, b"second attempt\n")
    stream.has(b"second attempt\n")
    job_maker.finish(held)
    assert stream.rest() == b"first attempt\nsecond attempt\n"


def test_a_follower_can_choose_where_to_begin(site: Site, job_maker: JobMaker) -> None:
    job_id = job_maker.ended(b"0123\n5678\nabcd\n")
    for query, expected in (
        ("&offset=3", b"3\n5678\nabcd\n"),
        ("&offset=15", b""),
        ("&tail=1", b"abcd\n"),
        ("&tail=0", b""),
        ("&since=1h", b"0123\n5678\nabcd\n"),
        ("&since=2099-01-01T00:00:00Z", b""),
        ("", b"0123\n5678\nabcd\n"),
    ):
        stream = follow(site, job_id, query)
        assert stream.rest() == expected, query
        assert int(stream.answer.headers["X-Log-Offset"]) == 15 - len(expected)
    stream = follow(site, job_id, "&offset=3", **EVENTS, **{"Last-Event-ID": "10"})
    assert text_of(parse(stream.rest())) == "abcd\n"


@pytest.mark.parametrize("last", ["x", "-1", "1.5", "99999999999999999999", "日"])
def test_an_invalid_last_event_id_is_a_400(site: Site, job_maker: JobMaker, last: str) -> None:
    headers: dict[str, Any] = EVENTS | {"Last-Event-ID": last.encode()}
    job_id = job_maker.ended(b"text\n")
    is_problem(site.get(f"/jobs/{job_id}/logs?follow=1", headers=headers), 400)


@pytest.mark.parametrize("seed", [1, 2])
def test_resumed_events_give_the_exact_text(served: Site, seed: int) -> None:
    job_id = served.submit([sys.executable, str(PROGRAMS / "write_pieces.py")])
    pick, text, last, cuts, wanted = random.Random(seed), "", "", 0, 0
    while True:
        headers = EVENTS | ({"Last-Event-ID": last} if last else {})
        path = f"/jobs/{job_id}/logs?follow=1" + ("" if last else "&offset=0")
        data, wanted = b"", wanted or pick.randint(1, 3_000)
        with admitted_answer(served, path, **headers) as answer:
            for chunk in answer.iter_content(pick.randint(1, 4_000)):
                data += chunk
                if len(data) > wanted:
                    break
        events = parse(data)
        text += text_of(events)
        last = next((event["id"] for event in reversed(events) if "id" in event), last)
        if any(event.get("event") == "end" for event in events):
            break
        cuts += 1
        wanted = 0 if events else wanted * 2  # on a busy machine an event may be a large one
    assert cuts > 2
    assert text == served.job_maker.log(job_id).read_bytes().decode(errors="replace")


def test_a_plain_follower_gets_random_bytes_unchanged(served: Site) -> None:
    job_id = served.submit("for i in 1 2 3 4 5 6 7 8 9; do head -c 200001 /dev/urandom; done")
    stream = follow(served, job_id, "&offset=0")
    assert stream.rest() == served.job_maker.log(job_id).read_bytes()
    assert len(stream.data) == 9 * 200_001


def test_a_follower_gets_a_character_once_it_is_complete(
    site: Site, job_maker: JobMaker, running: Claim
) -> None:
    stream = follow(site, running.job.id, **EVENTS)
    for n in range(1, 4):
        job_maker.write(running, "a日".encode()[:1] if n == 1 else b"")
        job_maker.write(running, "日".encode()[n - 1 : n])
    wait_until(lambda: text_of(parse(stream.data)) == "a日")
    job_maker.write(running, b"\xe6\x97")
    job_maker.finish(running)
    events = parse(stream.rest())
    assert text_of(events) == "a日\ufffd"
    assert events[-1]["id"] == "6"


def test_a_follower_gets_output_and_the_end_at_once(locked: Site) -> None:
    """Not only at the next ping, which is minutes away on this site."""
    held = locked.job_maker.running()
    stream = follow(locked, held.job.id, **EVENTS)
    for word in ("one ", "two "):
        locked.job_maker.write(held, word.encode())
        stream.has(word.encode())
    locked.job_maker.finish(held)
    assert text_of(parse(stream.rest())) == "one two "


def test_curl_ends_by_itself_when_the_job_does(served: Site, tmp_path: Path, gate: Gate) -> None:
    job_id = served.submit(f"echo 始; {gate.wait}; printf 終")
    command = [need("curl"), "-sSN", f"{served.url}/jobs/{job_id}/logs?follow=1"]
    with open(tmp_path / "curl.txt", "wb") as out, subprocess.Popen(command, stdout=out) as curl:
        wait_until(lambda: (tmp_path / "curl.txt").read_bytes() == "始\n".encode())
        gate.open()
        assert curl.wait(20) == 0
    assert (tmp_path / "curl.txt").read_text(encoding="utf-8") == "始\n終"


# --- Followers have a cap -------------------------------------------------------------------------


@pytest.fixture
def full(small: Site) -> Iterator[tuple[Site, str, list[Stream]]]:
    """A running job with the maximum number of followers."""
    held = small.job_maker.running(b"text\n")
    path = f"/jobs/{held.job.id}/logs?follow=1"
    streams = [admitted(small, path) for _ in range(2)]
    yield small, path, streams
    small.job_maker.finish(held)
    for stream in streams:
        stream.rest()


def test_above_the_limit_only_followers_get_a_503(
    full: tuple[Site, str, list[Stream]],
) -> None:
    small, path, streams = full
    for headers in ({}, EVENTS):
        answer = small.get(path, headers=headers)
        is_problem(answer, 503, "too many clients are following logs")
        assert int(answer.headers["Retry-After"]) > 0
    job = path.removesuffix("/logs?follow=1")
    for other in ("/jobs", job, f"{job}/logs", f"{job}/logs?download=1", "/workers"):
        assert small.get(other).status_code == 200
    for stream in streams:
        stream.has(b"text\n")


@pytest.mark.parametrize("headers", [{}, EVENTS], ids=["plain", "events"])
def test_a_follower_that_disconnects_frees_its_place(
    full: tuple[Site, str, list[Stream]], headers: dict[str, str]
) -> None:
    small, path, streams = full
    for _ in range(3):
        streams.pop(0).close()
        streams.append(admitted(small, path, **headers))


def test_a_follower_whose_connection_is_reset_frees_its_place(
    full: tuple[Site, str, list[Stream]],
) -> None:
    small, path, streams = full
    streams.pop().close()
    connection = stalled(small, path)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()
    streams.append(admitted(small, path))


def test_head_and_invalid_requests_take_no_followers_place(
    full: tuple[Site, str, list[Stream]],
) -> None:
    small, path, streams = full
    streams.pop().close()
    for _ in range(4):
        wait_until(lambda: small.ask("HEAD", path).status_code == 200, 10)
        assert small.get(f"{path}&offset=6").status_code == 416
        assert small.get(f"{path}&offset=x").status_code == 400
        assert small.get(f"/jobs/{UNKNOWN}/logs?follow=1").status_code == 404
    streams.append(admitted(small, path))


# --- The time of a line ---------------------------------------------------------------------------


def stamped(answer: requests.Response) -> list[tuple[float, str]]:
    """(seconds since 1970, the line) of a log with timestamps."""
    lines = []
    for line in answer.text.splitlines():
        stamp, text = re.fullmatch(r"(\S+Z) (.*)", line).groups()  # type: ignore[union-attr]
        lines.append((datetime.fromisoformat(stamp).timestamp(), text))
    return lines


def test_lines_get_the_time_of_writing_and_are_found_by_time(served: Site, tmp_path: Path) -> None:
    os.mkfifo(gate := tmp_path / "gate")
    job_id = served.submit(f"while read x; do echo $x; done < {gate}")
    path = f"/jobs/{job_id}/logs"
    written: list[tuple[float, str, float]] = []

    def samples() -> int:
        times = served.job_maker.log(job_id).with_name("times")
        return times.stat().st_size // 16 if times.exists() else 0

    commands = open(gate, "w", buffering=1)
    for word in ("one", "two", "three", "end"):
        before = time.time()
        commands.write(f"{word}\n")
        wait_until(lambda: served.get(path).text.endswith(f"{word}\n"))  # noqa: B023
        written.append((before, word, time.time()))
        if word != "end":  # the next one is more than a sample later
            wait_until(lambda: samples() == len(written) and time.time() > written[-1][2] + 1.1)
    commands.close()
    served.wait(job_id)
    lines = stamped(served.get(f"{path}?timestamps=1"))
    assert [text for _, text in lines] == [word for _, word, _ in written]
    assert lines == sorted(lines, key=lambda line: line[0])
    for (stamp, _), (before, word, after) in zip(lines, written, strict=True):
        assert before - TICK <= stamp <= after + 2.5, word  # the next sample, well within
    for n, (before, _, _) in enumerate(written):
        since = datetime.fromtimestamp(before - TICK).astimezone().isoformat()
        answer = served.get(path, params={"since": since})
        words = answer.text.split()
        assert words == [word for _, word, _ in written][len(written) - len(words) :]
        assert len(words) >= len(written) - n  # everything written after
        assert len(words) <= len(written) - n + 1  # and at most a sample of what is older
        assert int(answer.headers["X-Log-Next"]) == len("one two three end ")
    assert served.get(f"{path}?since=1d").text == "one\ntwo\nthree\nend\n"
    assert served.get(path, params={"since": "2099-01-01T00:00:00+09:00"}).text == ""
    assert served.get(f"{path}?since=2000-01-01T00:00:00Z&limit_bytes=5").text == "one\nt"


def test_every_line_gets_one_timestamp_wherever_the_text_is_split(
    site: Site, job_maker: JobMaker, running: Claim
) -> None:
    job_maker.write(running, "一\n\n二\r三\n".encode() + b"x" * 70_000 + b"\n")
    stream = follow(site, running.job.id, "&timestamps=1&offset=0")
    for piece in ("四", "四\n五", "\n", "\n六"):
        job_maker.write(running, piece.encode())
        stream.has(piece.rpartition("\n")[2].encode())
    job_maker.finish(running)
    stamp = re.compile(r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z ", re.MULTILINE)
    content = job_maker.log(running.job.id).read_bytes().decode()
    lines = content.count("\n") + 1
    for text in (
        stream.rest().decode(),
        site.get(f"/jobs/{running.job.id}/logs?timestamps=1").content.decode(),
        site.get(f"/jobs/{running.job.id}/logs?timestamps=1&offset=0").content.decode(),
    ):
        bare, count = stamp.subn("", text)
        assert (bare, count) == (content, lines)


def test_offsets_do_not_count_timestamps(site: Site, job_maker: JobMaker) -> None:
    job_id = job_maker.ended(b"one\ntwo\n")
    path = f"/jobs/{job_id}/logs?timestamps=1&limit_bytes=4&offset="
    assert numbers(site.get(f"{path}0")) == (0, 4, 8)
    assert numbers(site.get(f"{path}4")) == (4, 8, 8)
    assert site.get(f"{path}5").text == "wo\n"  # the rest of a line: its stamp came before


# --- A log whose head was given back --------------------------------------------------------------


def test_a_trimmed_log_reports_where_it_starts(small: Site, gate: Gate) -> None:
    job_id = small.submit(f"seq 1000000; {gate.wait}; echo end")
    path = f"/jobs/{job_id}/logs"
    answer = small.get(path)
    whole = "".join(f"{n}\n" for n in range(1, 1_000_001)).encode()

    def is_trimmed() -> bool:
        nonlocal answer
        answer = small.get(f"{path}?offset=0&limit_bytes={4 << 20}")
        size = numbers(answer)[2] if answer.status_code == 200 else 0
        start = int(answer.headers.get("X-Log-Start", 0))
        return size == len(whole) and start > len(whole) - 2 * (1 << 20)

    wait_until(is_trimmed, 30, small.processes.text)
    start = int(answer.headers["X-Log-Start"])
    assert start <= len(whole) - (1 << 20)
    assert numbers(answer) == (start, len(whole), len(whole))
    assert "X-Log-Line" not in answer.headers  # the number of deleted lines is not known
    is_problem(small.get(f"{path}?line=1"), 416, "the beginning of this log was deleted")
    assert answer.content == whole[start:]
    assert small.get(f"{path}?offset={start + 10}").content == whole[start + 10 :][: 256 << 10]
    assert small.get(f"{path}?tail=3").text == "999998\n999999\n1000000\n"
    assert whole[start:].endswith(small.get(f"{path}?tail=1000000").content)
    download = small.get(f"{path}?download=1")
    assert (download.content, download.headers["X-Log-Start"]) == (whole[start:], str(start))
    ranged = small.get(f"{path}?download=1", headers={"Range": "bytes=0-9"})
    assert (ranged.status_code, ranged.content) == (206, whole[start:][:10])
    found = small.get(f"{path}?q=1000000").json()["matches"]
    assert [(m["text"], m["line"]) for m in found] == [("1000000", None)]
    assert small.get(f"{path}?q=12345%0D").json() == {"matches": [], "next": None}
    stream = admitted(small, f"{path}?follow=1&offset=0", **EVENTS)
    wait_until(lambda: text_of(parse(stream.data)) == whole[start:].decode())
    gate.open()
    assert text_of(parse(stream.rest())) == whole[start:].decode() + "end\n"
    assert small.wait(job_id)["log_size"] == len(whole) + 4


# --- Search ---------------------------------------------------------------------------------------


def search(site: Site, job_id: str, **query: object) -> tuple[list[dict[str, Any]], int | None]:
    params: dict[str, Any] = query
    answer = site.get(f"/jobs/{job_id}/logs", params=params)
    assert answer.status_code == 200, answer.text
    body = answer.json()
    assert set(body) == {"matches", "next"}
    for match in body["matches"]:
        assert set(match) == {"offset", "line", "text"}
    return body["matches"], body["next"]


def test_a_search_returns_lines_newest_first_with_their_offsets(
    site: Site, job_maker: JobMaker
) -> None:
    content = "start\nError: 一\nfine\nAN ERROR, and an error\n日本語 error"
    job_id = job_maker.ended(content.encode())
    matches, following = search(site, job_id, q="error")
    assert following is None
    assert [(m["line"], m["text"]) for m in matches] == [
        (5, "日本語 error"),
        (4, "AN ERROR, and an error"),
        (2, "Error: 一"),
    ]
    for match in matches:
        at = match["offset"]
        assert content.encode()[at:].decode().startswith(match["text"])
        assert at == 0 or content.encode()[at - 1 : at] == b"\n"
    assert search(site, job_id, q="日本語")[0] == [
        {"offset": matches[0]["offset"], "line": 5, "text": "日本語 error"}
    ]
    assert search(site, job_id, q="start")[0] == [{"offset": 0, "line": 1, "text": "start"}]
    for absent in ("absent", "fine AN", ".*", "本日"):
        assert search(site, job_id, q=absent) == ([], None)


def test_a_search_continues_where_it_stopped(site: Site, job_maker: JobMaker) -> None:
    job_id = job_maker.ended(b"".join(b"%d %s\n" % (n, b"odd" * (n % 2)) for n in range(1, 1_001)))
    got: list[int] = []
    following: int | None = None
    while True:
        place = {} if following is None else {"before": following}
        matches, following = search(site, job_id, q="odd", limit=33, **place)
        got += [match["line"] for match in matches]
        assert len(matches) <= 33
        if following is None:
            break
    assert got == list(range(999, 0, -2))
    assert len(search(site, job_id, q="odd")[0]) == 100


def test_a_search_of_an_empty_or_missing_log_finds_nothing(site: Site, job_maker: JobMaker) -> None:
    assert search(site, job_maker.queued().id, q="x") == ([], None)
    assert search(site, job_maker.ended(b""), q="x") == ([], None)


def test_a_match_is_found_across_any_boundary_of_blocks(site: Site, job_maker: JobMaker) -> None:
    for shift in range(1, 9):
        rest = (1 << 20) - shift
        job_id = job_maker.ended(b"a" * 100 + b"\nneedle!\n" + b"b" * (rest - 1) + b"\n")
        [match], _ = search(site, job_id, q="needle!")
        assert (match["offset"], match["line"], match["text"]) == (101, 2, "needle!")


def test_the_end_of_a_huge_log_costs_no_more_than_that_of_a_small_one(
    client: FlaskClient, folder: Path
) -> None:
    content, job_maker = b"a line of a log\n" * 10_000, JobMaker(folder)
    small, huge = job_maker.ended(content), job_maker.ended(content)
    os.truncate(job_maker.log(huge), 4 << 30)  # most of it is a hole
    with open(job_maker.log(huge), "ab") as log:
        log.write(b"\n" + content)

    def seconds(job_id: str) -> float:
        begun = time.thread_time()
        assert client.get(f"/jobs/{job_id}/logs?tail=10").status_code == 200
        return time.thread_time() - begun

    assert min(seconds(small) for _ in range(5)) * 10 > min(seconds(huge) for _ in range(5))


def test_lines_of_a_log_at_the_counting_limit_are_counted_once(
    client: FlaskClient, folder: Path
) -> None:
    """The log is longer than the limit, but its last lines begin below it. Earlier, each request
    counted all lines before them."""
    content, job_maker = b"a line of a log\n" * 10_000, JobMaker(folder)
    small, large = job_maker.ended(content), job_maker.ended(b"first\n")
    os.truncate(job_maker.log(large), line_counts.COUNT_LIMIT - len(content))  # the rest is a hole
    with open(job_maker.log(large), "ab") as log:
        log.write(b"\n" + content)

    def seconds(job_id: str) -> float:
        begun = time.thread_time()
        answer = client.get(f"/jobs/{job_id}/logs?tail=10")
        used = time.thread_time() - begun
        assert int(answer.headers["X-Log-Line"]) == (9_993 if job_id == large else 9_991)
        return used

    wait_until(lambda: "X-Log-Line" in client.get(f"/jobs/{large}/logs?tail=10").headers)
    assert min(seconds(small) for _ in range(5)) * 10 > min(seconds(large) for _ in range(5))


def test_the_line_numbers_of_a_growing_log_are_known_beyond_the_counting_limit(
    client: FlaskClient, folder: Path
) -> None:
    job_maker = JobMaker(folder)
    claim = job_maker.running(b"first\n")
    path = job_maker.log(claim.job.id)

    def last_line() -> str | None:
        return client.get(f"/jobs/{claim.job.id}/logs?tail=1").headers.get("X-Log-Line")

    for number, size in enumerate((0.75, 1.5, 2.25), 2):
        os.truncate(path, int(size * line_counts.COUNT_LIMIT))  # a hole
        job_maker.write(claim, b"\n")
        job_maker.write(claim, b"last\n")
        wait_until(lambda expected=str(number * 2 - 1): last_line() == expected)
    job_maker.finish(claim)


def test_each_search_takes_time_in_proportion_to_the_log(tmp_path: Path) -> None:
    """`rfind` would compare all bytes of a needle at each place, and block all other threads."""
    path = tmp_path / "output.log"
    path.write_bytes(b"a" * (8 << 20))

    def seconds(needle: str) -> float:
        with FileLog(str(path)) as log:
            begun = time.thread_time()
            assert log.search(TextMatcher(needle), log.size, 10, math.inf) == ([], None)
            return time.thread_time() - begun

    plain = min(seconds("b" * 200) for _ in range(3))
    assert seconds("ab" + "a" * 198) < 25 * plain


def test_the_last_match_is_the_one_that_rfind_finds() -> None:
    found = 0
    for seed in range(2_000):
        chance = random.Random(seed)
        block = bytes(chance.choices(b"ab", k=chance.randrange(200)))
        needle = bytes(chance.choices(b"ab", k=chance.choice((1, 5, 16, 17, 19)))) * (seed % 2 + 1)
        if len(block) > 20 and seed % 3:
            needle = block[(place := chance.randrange(len(block) - 20)) : place + 18]
        find_last = last_match_finder(block, needle)
        for end in range(0, 210, 7):
            at = find_last(end)
            assert at == block.rfind(needle, 0, end)
            found += at >= 0
    assert found > 5_000


def test_matches_are_counted_over_the_whole_log(site: Site, job_maker: JobMaker) -> None:
    job_id = job_maker.ended(b"Needle needle\n" * 200_000 + b"nee")  # blocks end within matches
    answer = site.get(f"/jobs/{job_id}/logs?q=needle&count=1")
    assert answer.json() == {"count": 400_000, "complete": True}
    assert site.get(f"/jobs/{job_id}/logs?q=x&count=1").json()["count"] == 0


def test_counting_without_a_search_text_is_a_400(site: Site, job_maker: JobMaker) -> None:
    is_problem(site.get(f"/jobs/{job_maker.ended()}/logs?count=1"), 400, "count needs q")


def test_50_mb_are_searched_and_the_response_is_limited(site: Site, job_maker: JobMaker) -> None:
    line = b"%09d " + b"x" * 40 + b"\n"
    held = job_maker.running()
    for n in range(10):
        job_maker.write(held, b"".join(line % i for i in range(n * 100_000, (n + 1) * 100_000)))
    job_id = job_maker.finish(held).id
    for number in (0, 123_456, 999_999):
        matches, following = [], None
        while not matches:  # its time may be up before its end on a busy machine
            place = {} if following is None else {"before": following}
            matches, following = search(site, job_id, q=f"{number:09}", **place)
            assert matches or following is not None
        assert matches[0]["offset"] == number * 51
        assert matches[0]["line"] in (number + 1, None)
    matches, following = search(site, job_id, q="x", limit=1_000)
    assert len(matches) <= 1_000 and following
    assert [m["offset"] for m in matches] == [51 * (999_999 - n) for n in range(len(matches))]


# --- Bounds ---------------------------------------------------------------------------------------


def children(pid: int) -> list[int]:
    found = []
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            stat = Path(f"/proc/{name}/stat").read_text()
        except OSError:
            continue
        if int(stat.rpartition(")")[2].split()[1]) == pid:
            found.append(int(name))
    return found


def memory(pid: int, name: str) -> int:
    """VmRSS or VmHWM (its peak) of a process, in bytes."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(re.search(rf"{name}:\s+(\d+) kB", status)[1]) * 1024  # type: ignore[index]


@pytest.mark.skipif(not os.path.exists("/proc/self/clear_refs"), reason="needs Linux's /proc")
def test_a_huge_log_is_served_with_little_memory(small: Site) -> None:
    line = b"2026-11-23 18:00:00 INFO a line as programs write them, number %09d\n"
    block = b"".join(line % n for n in range(15_000))
    held = small.job_maker.running()
    for _ in range(MANY // len(block) + 1):
        small.job_maker.write(held, block)
    job_id = small.job_maker.finish(held).id
    size = small.job_maker.log(job_id).stat().st_size
    path = f"/jobs/{job_id}/logs"
    [worker] = children(small.processes.started[0].pid)
    for _ in range(2):  # the second time, all modules are loaded and buffers have their size
        small.get(f"{path}?offset=0")
        small.get(path)
    before = memory(worker, "VmRSS")
    Path(f"/proc/{worker}/clear_refs").write_text("5")  # resets the peak
    assert len(small.get(path).content) == 1_000 * len(line % 0)
    assert small.get(f"{path}?tail=1000000").content
    at = 0
    while at < size:
        at += len(small.get(f"{path}?offset={at}&limit_bytes={4 << 20}").content)
    for query in ("download=1", "follow=1&offset=0"):
        with wait_until(lambda: ok(small.get(f"{path}?{query}", stream=True))) as answer:  # noqa: B023
            assert sum(map(len, answer.iter_content(1 << 20))) == size
    assert search(small, job_id, q="number 000014999", limit=5)[0]
    peak, after = memory(worker, "VmHWM"), memory(worker, "VmRSS")
    assert peak - before < 48 << 20  # a few MiB that each of its threads may keep
    assert after - before < 32 << 20


def ok(answer: requests.Response) -> requests.Response | None:
    return answer if answer.status_code == 200 else None
