"""The list of jobs: searches among many jobs, filters and their counts, who started a job, and what
the page says while nothing answers."""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
from conftest import ROOT, TOKEN, JobMaker, free_port, need_browser
from page_site import (
    ANNAS_TOKEN,
    Site,
    check_with_axe,
    counting,
    log_of,
    row,
    served,
    state,
    visit,
)
from playwright.sync_api import Locator, Page, expect

from tailboard.status import Status
from tailboard.values import first_id

# Clicks on a filter and returns the status of each row that is then shown, in the same task.
CLICK_FILTER = """list => {
    list.querySelector(".filters a[title='timed out']").click();
    const icons = [...list.querySelectorAll(".rows a > .icon + .unseen")];
    return icons.map((icon) => icon.textContent);
}"""


class PastJobs:
    """Makes many jobs of yesterday, each newer than the one before, as copies of one job."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.maker = folder, JobMaker(folder)
        self.begun, self.count = time.time() - 86_400, 0

    def add(self, count: int, status: Status = Status.SUCCEEDED, **fields: str) -> None:
        model = self.maker.log(self.maker.ended(b"", status, **fields)).parent
        for _ in range(count):
            self.count += 1
            job_id = first_id(self.begun + self.count)
            folder = self.folder / status / job_id[:8] / job_id
            folder.mkdir(parents=True)
            for name in ("job.json", "journal"):
                shutil.copyfile(model / name, folder / name)
        shutil.rmtree(model)


@pytest.fixture(scope="module")
def long_site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A site without a worker, where 2,635 jobs have ended."""
    need_browser()
    with served(tmp_path_factory.mktemp("long"), worker=False) as site:
        jobs = PastJobs(Path(site.storage.root))
        jobs.add(1, Status.FAILED, name="ancient fail.py")
        jobs.add(278, Status.FAILED, name="backup")
        jobs.add(2100, name="minutely")
        for number in range(45):
            jobs.add(1, name=f"daily {number}")
        jobs.add(210, name="noisy")
        jobs.add(1, Status.TIMED_OUT, name="train")
        yield site


def status_filter(page: Page, name: str) -> Locator:
    return page.get_by_role("navigation", name="Status").get_by_role("link", name=name)


def test_a_search_continues_through_all_jobs_and_counts_agree(long_site: Site, page: Page) -> None:
    visit(page, f"{long_site.url}/?q=fail.py")
    expect(row(page, "ancient fail.py")).to_be_visible()
    expect(status_filter(page, "failed")).to_have_text("✕failed 1")
    expect(page.get_by_text("Searched")).to_be_hidden()
    page.get_by_label("Search jobs").fill("nowhere to be found")
    expect(page.get_by_text("No jobs match “nowhere to be found”.")).to_be_visible()
    page.get_by_label("Search jobs").fill("backup")
    status_filter(page, "failed").click()
    expect(row(page, "backup")).to_contain_text("\u00d7278")
    expect(row(page, "backup")).not_to_contain_text("\u00d7278+")
    expect(status_filter(page, "failed")).to_have_text("✕failed 278")
    expect(status_filter(page, "all")).to_have_text("all 278")
    page.get_by_role("button", name="All matching jobs").click()
    page.get_by_role("button", name="Run all again…").click()
    question = page.get_by_role("group", name="All matching jobs")
    expect(question).to_contain_text("Run 278 failed jobs matching “backup” again?")
    expect(question.get_by_role("button", name="Run 278 jobs")).to_be_visible()


def test_one_noisy_job_does_not_hide_the_others(long_site: Site, page: Page) -> None:
    visit(page, f"{long_site.url}/?status=succeeded")
    expect(row(page, "noisy")).to_contain_text("\u00d7210")
    expect(row(page, "daily 7")).to_be_attached()
    expect(page.get_by_role("navigation", name="Pages")).to_contain_text(
        re.compile(r"^1\u2013\d{3},?.* of 2,355Older jobs$")
    )
    expect(page.locator(".page-header").get_by_text("280 failed today")).to_be_visible()
    expect(page.get_by_role("button", name="No worker")).to_be_visible()
    expect(page.get_by_text("updated")).to_be_hidden()
    page.get_by_role("link", name="Older jobs").click()
    expect(page.get_by_role("navigation", name="Pages")).to_contain_text("Newest jobs")


def test_all_filters_fit_on_a_phone(long_site: Site, page: Page) -> None:
    page.set_viewport_size({"width": 360, "height": 740})
    visit(page, f"{long_site.url}/?status=lost")
    names = ("all", "running", "failed", "succeeded", "timed out", "lost")
    for name in names:
        expect(status_filter(page, name)).to_be_in_viewport(ratio=1)
    expect(status_filter(page, "lost")).to_have_attribute("aria-current", "true")
    check_with_axe(page)
    page.set_viewport_size({"width": 900, "height": 740})
    word = status_filter(page, "timed out").locator(".word")
    expect(word).to_be_in_viewport(ratio=1)
    assert (word.bounding_box() or {"width": 0})["width"] > 20


def test_a_filter_shows_the_known_rows_in_the_same_frame(long_site: Site, page: Page) -> None:
    visit(page, f"{long_site.url}/?q=ai")
    expect(row(page, "train")).to_be_visible()
    expect(row(page, "daily 7")).to_be_attached()
    shown = page.locator(".job-list").evaluate(CLICK_FILTER)
    assert shown == ["timed out"]
    expect(page.locator(".job-list.stale")).to_have_count(0)
    expect(row(page, "train")).to_be_visible()


def test_nothing_is_claimed_before_the_api_has_answered(page_site: Site, page: Page) -> None:
    api = f"http://127.0.0.1:{free_port()}"
    with page_site.serve_dashboard(ROOT, api) as url:
        visit(page, url)
        expect(page.get_by_text(f"Can't reach the API at {api}. Retrying…")).to_be_visible()
        expect(status_filter(page, "all")).to_have_text("all \u2013")
        expect(status_filter(page, "failed")).to_have_text("✕failed \u2013")
        for claim in ("No jobs yet", "No worker", "updated"):
            expect(page.get_by_text(claim)).to_be_hidden()


def test_a_lost_server_is_reported_in_the_header_and_the_log_stays_live(
    page_site: Site, page: Page, gate_file: Path
) -> None:
    job = page_site.python(counting(gate_file), "outlives the page")
    with page_site.serve_dashboard() as url:
        visit(page, f"{url}/?job={job.id}")
        expect(state(page)).to_have_text("live")
        page_site.kill_dashboard(url)
        lost = page.get_by_text("The page's server isn't answering. Reconnecting…")
        expect(lost).to_be_visible()
        lines = log_of(page).locator(".line").count()
        expect(log_of(page).locator(".line").nth(lines + 3)).to_be_attached()
        expect(page.get_by_role("dialog")).to_have_count(0)
        page_site.start_dashboard(ROOT, url)
        expect(page.get_by_text("isn't answering")).to_be_hidden()
        expect(row(page, "outlives the page")).to_be_visible()


def test_rows_show_who_started_a_job_and_mine_filters_them(locked_site: Site, page: Page) -> None:
    for token, name in ((ANNAS_TOKEN, "job of anna"), (TOKEN, "job of nobody")):
        requests.post(
            f"{locked_site.api}/jobs",
            json={"command": "true", "name": name},
            headers={"Authorization": f"Bearer {token}"},
        ).raise_for_status()
    page.goto(locked_site.url)
    page.get_by_label("Token").fill(ANNAS_TOKEN)
    page.get_by_label("Token").press("Enter")
    expect(row(page, "job of nobody")).to_be_visible()
    expect(row(page, "job of anna").locator(".initials")).to_have_text("AN")
    expect(row(page, "job of nobody").locator(".initials")).to_have_count(0)
    status_filter(page, "mine").click()
    expect(page).to_have_url(re.compile("by=anna"))
    expect(row(page, "job of nobody")).to_have_count(0)
    expect(row(page, "job of anna")).to_be_visible()
    status_filter(page, "mine").click()
    expect(row(page, "job of nobody")).to_be_visible()


def test_the_same_lines_of_many_jobs_are_folded_and_opened_with_find(
    page_site: Site, page: Page
) -> None:
    for _ in range(3):
        page_site.wait(page_site.submit("echo sprocket jammed", "loom"), "succeeded")
    visit(page, page_site.url)
    page.get_by_label("Search jobs").fill("sprocket jammed")
    page.get_by_label("Search jobs").press("Enter")
    found = page.get_by_role("list", name="Matching lines")
    expect(found.get_by_role("listitem")).to_have_count(1)
    expect(page.get_by_text("3 lines in 3 jobs")).to_be_visible()
    found.get_by_role("button", name="\u00d73").click()
    expect(found.get_by_role("link", name="loom")).to_have_count(3)
    found.get_by_role("link", name="sprocket jammed").click()
    expect(log_of(page)).to_contain_text("sprocket jammed")
    expect(page.get_by_label("Find in log")).to_have_value("sprocket jammed")
