"""Jobs that are late or silent, as the page shows them."""

from __future__ import annotations

import re
import shutil
import time
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from conftest import JobMaker
from page_site import Site, check_with_axe, log_of, row, visit, waiting
from past_runs import end_after, rewrite_claim, write
from playwright.sync_api import Page, expect

from tailboard.job import Job
from tailboard.page import rows
from tailboard.values import utc

LATE = re.compile(r"^usually 36 s, now \d min$")
SILENT = re.compile(r"^silent for \d+ min, never longer than 40 s before$")
# In the log pane, where "this line" is a link to it.
SILENT_AFTER = re.compile(
    r"^nothing for \d+ min; the longest pause before was 40 s, after this line(; (idle|busy.*))?$"
)


@pytest.fixture
def site(page_site: Site) -> Site:
    return page_site


def test_a_row_is_not_sent_again_whenever_its_job_writes_something() -> None:
    usual = {"seconds": 36, "silent_after": 60, "silent_since": "2026-11-29T03:00:00.000Z"}
    job = {"id": "1", "command": "c", "usual": usual}
    now = datetime.fromisoformat("2026-11-29T03:00:59Z")
    assert rows.listed_usual(usual, now) == usual | {"silent_since": None}
    assert rows.listed_usual(usual, now + timedelta(seconds=1)) == usual
    assert rows.job_row(job)["usual"] == usual
    assert "usual" not in rows.job_row(job | {"usual": None})


def add_past_runs(site: Site, home: Path, name: str, *times: float) -> None:
    """Three earlier runs, see `end_after`. They are made in another folder, since the worker of the
    site would run them."""
    maker = JobMaker(home)
    for _ in range(3):
        ended = maker.log(end_after(maker.running(name=name), *times).id).parent
        day = Path(site.storage.root, ended.relative_to(home).parent)
        day.mkdir(parents=True, exist_ok=True)
        shutil.move(ended, day)


def run_since(site: Site, gate: Path, name: str, seconds: float, silent: float) -> Job:
    """A job that runs, as if for so many seconds, and has written nothing for the last ones."""
    job = site.submit(waiting(gate), name)
    site.wait(job, "running")
    folder = Path(site.storage.root, "running", job.id)
    rewrite_claim(folder, started_at=utc(time.time() - seconds))
    write(folder / "output.log", "started\n", time.time() - silent)
    return job


def test_a_late_or_silent_job_says_so_in_its_row_its_head_and_the_home(
    site: Site, page: Page, tmp_path: Path, gate_file: Path
) -> None:
    add_past_runs(site, tmp_path / "jobs", "import db1", 36, 20)
    add_past_runs(site, tmp_path / "jobs", "sync photos", 3_600, *range(0, 3_600, 40))
    run_since(site, gate_file, "import db1", 130, 0)
    silent = run_since(site, gate_file, "sync photos", 2_000, 850)
    visit(page, f"{site.url}/?job={silent.id}")
    expect(row(page, "import db1").locator(".sign")).to_have_text(LATE)
    expect(row(page, "sync photos").locator(".sign")).to_have_text(SILENT)
    expect(page.locator(".why-reason")).to_have_text(SILENT_AFTER)
    expect(page.locator(".head-past")).to_have_text("usually 1 h")
    heights = [line.bounding_box() for line in row(page, "").all()[:3]]
    assert {box["height"] for box in heights if box} == {heights[0]["height"]}  # type: ignore[index]
    check_with_axe(page)
    # It writes again, so it is no longer silent.
    write(Path(site.storage.root, "running", silent.id, "output.log"), "more\n", time.time())
    expect(row(page, "sync photos").locator(".sign")).to_be_hidden()
    expect(page.locator(".why")).to_be_hidden()
    expect(log_of(page)).to_contain_text("more")
    visit(page, site.url)
    running = page.locator(".home-item.running")
    expect(running.filter(has_text="import db1").locator(".overdue")).to_have_text(LATE)
    expect(running.filter(has_text="sync photos").locator(".home-time")).to_contain_text(
        "usually 1 h"
    )
