"""Searching all logs for a text: what is found, in which order, and within which limits."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from command_site import HEEDS_CTRL_C, Tailboard
from conftest import JobMaker, Processes, Site, wait_until
from web import UNKNOWN, is_problem

from api import create_app
from storage import WorkerStore
from tailboard.cli import grep as grep_command
from tailboard.status import Status
from tailboard.web import grep as grep_module
from tailboard.web import log_search


@pytest.fixture
def job_maker(site: Site) -> JobMaker:
    return site.job_maker


def grep(site: Site, text: str, **query: object) -> dict[str, Any]:
    answer = site.get("/logs", params={"q": text} | query)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def places(page: dict[str, Any]) -> list[tuple[str, str]]:
    return [(hit["job"]["id"], hit["text"]) for hit in page["hits"]]


# --- Matches --------------------------------------------------------------------------------------


def test_the_newest_job_and_line_come_first_with_their_offsets(
    site: Site, job_maker: JobMaker
) -> None:
    old = job_maker.ended(b"start\nAlpha: no \xff\n", Status.FAILED, name="deploy")
    job_maker.ended(b"nothing\n")
    new = job_maker.running(b"ALPHA: \xe6\x97\xa5\nx\nalpha: three").job.id
    page = grep(site, "alpha: ")
    assert places(page) == [(new, "alpha: three"), (new, "ALPHA: 日"), (old, "Alpha: no �")]
    assert [(hit["offset"], hit["line"]) for hit in page["hits"]] == [(13, 3), (0, 1), (6, 2)]
    job = page["hits"][2]["job"]
    assert job.pop("submitted_at") < job.pop("finished_at")
    assert job == {
        "id": old, "name": "deploy", "title": "deploy", "queue": "by-hand", "status": "failed"
    }  # fmt: skip
    assert page["more_in"] == [] and page["next"] is None
    assert page["searched"]["jobs"] >= 3 and page["searched"]["bytes"] >= 50


def test_filters_select_the_jobs(site: Site, job_maker: JobMaker) -> None:
    for status, queue in ((Status.FAILED, "grep-a"), (Status.FAILED, "grep-b"),
                          (Status.SUCCEEDED, "grep-a")):  # fmt: skip
        job_maker.ended(b"filtered\n", status, queue=queue, submitted_by=f"from {queue}")
    for query, count in (
        ({}, 3),
        ({"status": "failed"}, 2),
        ({"queue": "grep-a"}, 2),
        ({"status": "failed", "queue": "grep-a"}, 1),
        ({"by": "from grep-b"}, 1),
        ({"since": "1h"}, 3),
        ({"since": "0s"}, 0),
    ):
        assert len(grep(site, "filtered", **query)["hits"]) == count, query
    assert grep(site, "filtered", since="0s")["searched"] == {
        "jobs": 0, "bytes": 0, "unreadable": 0
    }  # fmt: skip


@pytest.mark.parametrize(
    ("query", "sentence"),
    [
        ({}, "q must be 1 to 200 characters"),
        ({"q": ""}, "q must be"),
        ({"q": "a\nb"}, "q must be"),
        ({"q": "x", "since": "yesterday"}, "since must be like 30s"),
        ({"q": "x", "per_job": 0}, "per_job must be a whole number from 1 to 1,000"),
        ({"q": "x", "before": f"{UNKNOWN}.-1.0"}, "before must be the value of `next`"),
        ({"q": "x", "before": "x"}, "before must be"),
        ({"q": "x", "tail": "1"}, "unknown field 'tail'"),
    ],
)
def test_an_invalid_search_is_refused_in_one_sentence(
    site: Site, query: dict[str, Any], sentence: str
) -> None:
    is_problem(site.get("/logs", params=query), 400, sentence)


def test_a_ticket_does_not_open_the_search(locked: Site) -> None:
    ticket = locked.post("/ticket").json()["ticket"]
    params = {"q": "x", "ticket": ticket}
    is_problem(locked.get("/logs", params=params, headers={"Authorization": None}), 401)


def test_both_stores_are_searched(
    store: WorkerStore, store_url: str, logged: Callable[[bytes], str]
) -> None:
    jobs = [logged(b"a\nneedle %d\n" % number) for number in range(2)]
    for job_id in jobs:
        store.get(job_id)  # its machine has reported it
    client = create_app({"STORAGE": store_url}).test_client()
    first = client.get("/logs?q=needle&limit=1").get_json()
    second = client.get(f"/logs?q=needle&before={first['next']}").get_json()
    assert places(first) + places(second) == [(jobs[1], "needle 1"), (jobs[0], "needle 0")]
    assert second["hits"][0]["line"] == 2 and second["next"] is None


# --- Within bounds --------------------------------------------------------------------------------


def all_pages(ask: Callable[..., dict[str, Any]], **query: object) -> list[dict[str, Any]]:
    pages = [ask(**query)]
    while pages[-1]["next"] is not None:
        pages.append(ask(**query | {"before": pages[-1]["next"]}))
    return pages


def test_each_page_continues_where_the_last_one_ended(site: Site, job_maker: JobMaker) -> None:
    jobs = [job_maker.ended(b"".join(b"paged %d\n" % n for n in range(7))) for _ in range(3)]
    expected = [(job_id, f"paged {n}") for job_id in jobs[::-1] for n in range(6, -1, -1)]

    def ask(**query: object) -> dict[str, Any]:
        return grep(site, "paged", **query)

    for limit, per_job in ((1, 100), (5, 100), (5, 7), (100, 100)):
        pages = all_pages(ask, limit=limit, per_job=per_job)
        assert [place for page in pages for place in places(page)] == expected, (limit, per_job)
        assert all(len(page["hits"]) <= limit for page in pages)


def test_a_job_with_many_lines_does_not_hide_the_others(site: Site, job_maker: JobMaker) -> None:
    old, loud = job_maker.ended(b"chatty\n"), job_maker.ended(b"chatty\n" * 1_000)

    def ask(**query: object) -> dict[str, Any]:
        return grep(site, "chatty", per_job=3, **query)

    for limit in (2, 100):
        pages = all_pages(ask, limit=limit)
        found = [hit["job"]["id"] for page in pages for hit in page["hits"]]
        assert found == [loud, loud, loud, old], limit
        assert [job_id for page in pages for job_id in page["more_in"]] == [loud]


@pytest.fixture
def local(tmp_path: Path) -> JobMaker:
    """A site of its own, for logs that would disturb other tests."""
    return JobMaker(tmp_path / "jobs")


@pytest.fixture
def ask(local: JobMaker) -> Callable[..., dict[str, Any]]:
    """Searches that folder."""
    client = create_app({"STORAGE": local.folder}).test_client()

    def ask(text: str, **query: object) -> dict[str, Any]:
        answer = client.get("/logs", query_string={"q": text} | query)
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.get_json()
        return found

    return ask


def test_a_response_reads_at_most_its_limit_of_bytes(
    local: JobMaker, ask: Callable[..., dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(grep_module, "GREP_BYTES", 100_000)
    line = b"." * 99 + b"\n"
    jobs = [local.ended(b"far\n" + line * 2_400 + b"far\n") for _ in range(2)]
    local.ended(line * 500)
    pages = all_pages(lambda **query: ask("far", **query))
    assert [place for page in pages for place in places(page)] == [
        (job_id, "far") for job_id in jobs[::-1] for _ in range(2)
    ]
    read = [page["searched"]["bytes"] for page in pages]
    assert max(read) <= 100_000 and sum(read) == 2 * 240_008 + 50_000


def test_a_response_takes_at_most_its_time_limit(
    local: JobMaker, ask: Callable[..., dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even with no time at all, each response makes some progress."""
    jobs = [local.ended(b"slow\n") for _ in range(3)]
    monkeypatch.setattr(log_search, "SEARCH_TIME", -1.0)
    first = ask("slow")
    assert first["hits"] == [] and first["next"] == f"{jobs[2]}.5.0"
    monkeypatch.setattr(log_search, "SEARCH_TIME", 2.0)
    assert len(ask("slow", before=first["next"])["hits"]) == 3


def test_only_the_newest_part_of_a_huge_log_is_searched(
    local: JobMaker, ask: Callable[..., dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A job can turn its log into a hole of a terabyte."""
    monkeypatch.setattr(grep_module, "GREP_JOB_BYTES", 1 << 20)
    old, huge = local.ended(b"whole\n"), local.ended(b"whole\n")
    with open(local.log(huge), "ab") as log:
        log.truncate(1 << 40)
        log.write(b"\nwhole\n")
    pages = all_pages(lambda **query: ask("whole", **query))
    assert [place for page in pages for place in places(page)] == [(huge, "whole"), (old, "whole")]
    assert sum(page["searched"]["bytes"] for page in pages) < 2 << 20


def test_a_log_without_its_beginning_has_no_line_numbers(
    local: JobMaker, ask: Callable[..., dict[str, Any]]
) -> None:
    job_id = local.ended()
    with open(local.log(job_id), "wb") as log:
        log.truncate(1 << 20)
        log.seek(1 << 20)
        log.write(b"kept\n")
    [hit] = ask("kept")["hits"]
    assert (hit["offset"], hit["line"]) == (1 << 20, None)


# --- Hostile logs ---------------------------------------------------------------------------------


def test_hostile_logs_are_skipped(local: JobMaker, ask: Callable[..., dict[str, Any]]) -> None:
    good = local.ended(b"found\n")
    secret = local.folder.parent / "secret"
    secret.write_text("found\n")

    def replace_log(make: Callable[[Path], object]) -> None:
        path = local.log(local.ended(b"found\n"))
        path.unlink()
        make(path)

    replace_log(os.mkfifo)
    replace_log(os.mkdir)
    replace_log(lambda path: path.symlink_to(secret))
    replace_log(lambda path: None)
    damaged = local.ended(b"found\n")
    (local.log(damaged).parent / "job.json").write_text("{")
    page = ask("found")
    assert places(page) == [(damaged, "found"), (good, "found")]
    assert page["searched"]["jobs"] == 6 and page["next"] is None


def test_a_job_that_is_deleted_meanwhile_is_skipped(
    local: JobMaker, ask: Callable[..., dict[str, Any]]
) -> None:
    old, new = local.ended(b"gone\n"), local.ended(b"gone\n" * 9)
    page = ask("gone", limit=4)
    local.storage.delete(new)
    assert places(ask("gone", before=page["next"])) == [(old, "gone")]


def test_a_search_continues_when_a_log_shrinks_or_grows_meanwhile(
    local: JobMaker, ask: Callable[..., dict[str, Any]]
) -> None:
    held = local.running(b"first\nfirst\nfirst\n")
    place = ask("first", limit=1)["next"]
    local.write(held, b"first\n")
    assert len(ask("first", before=place)["hits"]) == 2
    os.truncate(local.log(held.job.id), 6)
    assert len(ask("first", before=place)["hits"]) == 1
    held.release()


# --- tailboard grep -------------------------------------------------------------------------------


def test_grep_prints_every_line_with_its_job(
    tailboard: Tailboard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(grep_command, "PAGE_LINES", 2)
    job_maker = tailboard.job_maker
    old = job_maker.ended(b"needle 1\r50%\r\n", command="echo\nx")
    content = b"needle 2\nneedle 3\nneedle 4\n"
    new = job_maker.ended(content, Status.FAILED, name="deploy", submitted_by="bert")
    lines = [f"{new} deploy: needle {n}" for n in (4, 3, 2)] + [f"{old} echo x: needle 1 50%"]
    for words, expected in (
        ("", lines),
        ("--status failed", lines[:3]),
        ("--limit 3", lines[:3]),
        ("--per-job 1", [lines[0], lines[3]]),
        ("--queue by-hand --since 1h", lines),
        ("--by bert", lines[:3]),
    ):
        found = tailboard("grep", "NEEDLE", *words.split())
        assert (found.stdout.splitlines(), found.exit_code) == (expected, 0), words


def test_grep_exits_with_1_if_nothing_is_found(tailboard: Tailboard) -> None:
    tailboard.job_maker.ended(b"hay\n")
    assert (tailboard("grep", "needle").exit_code, tailboard("grep", "needle").output) == (1, "")
    reported = tailboard("grep", "hay", "--since", "x")
    assert reported.exit_code == 1 and "since must be like 30s" in reported.stderr


def test_grep_prints_long_lines_without_their_ends(tailboard: Tailboard) -> None:
    job_id = tailboard.job_maker.ended(b"a" * 5_000 + b"needle" + b"b" * 5_000 + b"\n")
    (line,) = tailboard("grep", "needle").stdout.splitlines()
    assert line.startswith(f"{job_id} true: ") and 900 < len(line) < 1_100 and "needle" in line


@pytest.mark.parametrize("place", ["on_folder", "on_server"])
def test_grep_can_be_interrupted_without_a_traceback(
    request: pytest.FixtureRequest, place: str, processes: Processes
) -> None:
    tailboard: Tailboard = request.getfixturevalue(place)
    for _ in range(40):  # takes a while to search, but no disk space
        os.truncate(tailboard.job_maker.log(tailboard.job_maker.ended(b"x\n")), 1 << 30)
    tailboard.job_maker.ended(b"needle\n")
    process = processes.start(sys.executable, "-c", HEEDS_CTRL_C, "grep", "needle", **tailboard.env)
    wait_until(lambda: "needle" in processes.text(), describe=processes.text)
    process.send_signal(signal.SIGINT)
    assert process.wait(30) == 130
    assert processes.text().endswith("true: needle\n")
