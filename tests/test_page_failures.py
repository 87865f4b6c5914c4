"""What the page does once something has failed: why it did, the search of all logs, many jobs at
once, queues that are paused. In real Chromium, before a real API and a real worker."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from http.server import ThreadingHTTPServer
from threading import Thread

import pytest
import requests
from conftest import ROOT, wait_until
from page_site import LossyProxy, Site, check_with_axe, log_of, row, state, visit
from playwright.sync_api import Locator, Page, expect

from tailboard.job import Job


@pytest.fixture
def site(page_site: Site) -> Site:
    return page_site


REFUSED = "Error: connection refused by registry.example.com:5000"


def fail(site: Site, text: str, name: str, queue: str = "default") -> Job:
    """A failed job whose log has a line that explains why."""
    job = site.submit(["sh", "-c", f"seq 300; echo {text!r}; seq 300; exit 1"], name, queue=queue)
    site.wait(job, "failed")
    return job


def button(page: Page, name: str) -> Locator:
    return page.get_by_role("button", name=name, exact=True)


def search_all_logs(page: Page, text: str) -> Locator:
    """Searches all logs for a text; returns the list of results."""
    page.get_by_label("Search jobs").fill(text)
    page.get_by_label("Search jobs").press("Enter")
    return page.get_by_role("list", name="Matching lines")


def all_jobs(page: Page) -> Locator:
    """The line with the question about all matching jobs and, later, the result."""
    return page.get_by_role("group", name="All matching jobs")


def choose_for_all(page: Page, action: str) -> None:
    button(page, "All matching jobs").click()
    page.get_by_role("button", name=action).click()


# --- Why it failed --------------------------------------------------------------------------------


def test_a_row_shows_why_its_job_failed_and_leads_to_the_line(site: Site, page: Page) -> None:
    page.set_viewport_size({"width": 390, "height": 844})
    job = fail(site, f"{REFUSED} <b>", "no push")
    quiet = site.submit("exit 3", "silent failure")
    site.wait(quiet, "failed")
    visit(page, f"{site.url}/?list=1")  # on a phone, the home comes first
    hint = row(page, "no push").get_by_text(REFUSED)
    expect(hint).to_be_in_viewport()
    row(page, "no push").click()
    why = page.get_by_role("button", name=f"Why it failed: {REFUSED} <b>")
    expect(why).to_be_in_viewport()
    expect(log_of(page).get_by_text(REFUSED)).not_to_be_in_viewport()
    why.click()
    expect(log_of(page).locator(".line.current")).to_have_text(f"{REFUSED} <b>")
    expect(log_of(page).get_by_text(REFUSED)).to_be_in_viewport()
    visit(page, f"{site.url}/?job={quiet.id}")
    expect(state(page)).to_have_text("failed, exit 3")
    expect(page.get_by_text("Why it failed")).to_be_hidden()
    assert job.id != quiet.id


# --- The search of all logs -----------------------------------------------------------------------


def test_all_logs_are_searched_and_a_hit_opens_its_line(site: Site, page: Page) -> None:
    last_week = fail(site, "fatal: <img src=x> quota of nas3", "old backup", "archive")
    tonight = site.submit("seq 20; echo QUOTA of nas3; sleep 0.2", "new backup", queue="archive")
    site.wait(tonight, "succeeded")
    visit(page, site.url)
    found = search_all_logs(page, "quota of nas3")
    expect(found.get_by_role("listitem")).to_have_count(2)
    expect(found.locator("mark")).to_have_text(["QUOTA of nas3", "quota of nas3"])
    expect(page.get_by_text(re.compile(r"\d+ logs searched"))).to_be_visible()
    expect(row(page, "new backup")).to_be_hidden()
    found.get_by_role("link", name="301 fatal: <img src=x> quota of nas3").click()
    marked = log_of(page).locator(".line.marked")
    expect(marked).to_have_text("fatal: <img src=x> quota of nas3")
    expect(page).to_have_url(re.compile(rf"logs=quota\+of\+nas3&job={last_week.id}&at=1092"))
    expect(found.locator("[aria-current=true]")).to_have_count(1)
    page.reload()
    expect(marked).to_be_in_viewport()
    expect(found.get_by_role("listitem")).to_have_count(2)
    status = page.get_by_role("navigation", name="Status")
    status.get_by_role("link", name="failed").click()
    expect(found.get_by_role("listitem")).to_have_count(1)
    page.go_back()
    expect(found.get_by_role("listitem")).to_have_count(2)
    found.get_by_role("link").first.press("Escape")
    expect(found).to_be_hidden()
    expect(row(page, "new backup")).to_be_visible()
    page.go_back()
    expect(found.get_by_role("listitem")).to_have_count(2)


def test_a_search_without_matches_names_what_was_searched(site: Site, page: Page) -> None:
    fail(site, "something else", "searched in vain", "vain")
    visit(page, f"{site.url}/?status=failed&queue=vain")
    page.get_by_label("Search jobs").fill("no such words")
    button(page, "Search all logs for “no such words”").click()
    reported = "No match in the logs of failed jobs in queue vain. 1 log searched"
    expect(page.get_by_text(reported)).to_be_visible()
    button(page, "Clear").click()
    expect(row(page, "searched in vain")).to_be_visible()
    expect(page.get_by_label("Search jobs")).to_have_value("")


def test_a_search_shows_some_of_many_lines_and_more_on_request(site: Site, page: Page) -> None:
    for number in range(11):
        job = site.submit(
            "for n in 1 2 3 4 5 6 7 8 9 10; do echo too much; done", f"chatty {number}"
        )
        site.wait(job, "succeeded")
    visit(page, site.url)
    found = search_all_logs(page, "too much")
    expect(found.locator("mark")).to_have_count(50)
    button(page, "Search older logs").click()
    expect(found.locator("mark")).to_have_count(100)
    button(page, "Search older logs").click()
    expect(found.locator("mark")).to_have_count(110)
    expect(button(page, "Search older logs")).to_be_hidden()


class BusyProxy(LossyProxy):
    """Loses the response to the first rerun, and refuses the first search, as if another search had
    its turn."""

    def pass_on(self, body: bytes | None) -> None:
        if not self.path.startswith("/logs?") or "search" in self.lost:
            super().pass_on(body)
            return
        self.lost.add("search")
        reported = json.dumps({"detail": "another search is under way: try again"}).encode()
        self.send_response(503)
        self.send_header("Content-Type", "application/problem+json")
        self.send_header("Content-Length", str(len(reported)))
        self.end_headers()
        self.wfile.write(reported)


@pytest.fixture
def busy_page(site: Site) -> Iterator[str]:
    """The URL of a page that reaches the API through such a proxy."""
    BusyProxy.api, BusyProxy.lost = site.api, set()
    server = ThreadingHTTPServer(("127.0.0.1", 0), BusyProxy)
    Thread(target=server.serve_forever, daemon=True).start()
    with site.serve_dashboard(ROOT, f"http://127.0.0.1:{server.server_port}") as url:
        yield url
    server.shutdown()
    server.server_close()


def test_a_search_waits_for_its_turn_and_lost_responses_duplicate_no_job(
    site: Site, page: Page, busy_page: str
) -> None:
    jobs = [fail(site, "flood in the cellar", f"pump {n}", "cellar") for n in range(3)]
    visit(page, f"{busy_page}/?queue=cellar")
    found = search_all_logs(page, "flood in the cellar")
    expect(page.get_by_text("Waiting for another search to finish…")).to_be_visible()
    expect(found.locator("mark")).to_have_count(3)
    button(page, "Clear").click()
    choose_for_all(page, "Run all again")
    button(page, "Run 3 jobs").click()
    expect(all_jobs(page)).to_contain_text("Started 3 jobs.")
    listed = site.storage.list(queue="cellar")[0]
    assert sorted(job.rerun_of for job in listed if job.rerun_of) == [job.id for job in jobs]


# --- Many jobs at once ----------------------------------------------------------------------------


def test_all_failed_jobs_are_run_again_once(site: Site, page: Page) -> None:
    jobs = [fail(site, REFUSED, f"deploy {n}", "again") for n in range(3)]
    visit(page, site.url)
    expect(button(page, "All matching jobs")).to_be_hidden()
    visit(page, f"{site.url}/?status=failed&queue=again")
    choose_for_all(page, "Run all again")
    expect(all_jobs(page)).to_contain_text("Run 3 failed jobs in queue again again?")
    button(page, "Cancel").click()
    expect(all_jobs(page)).to_be_hidden()
    choose_for_all(page, "Run all again")
    button(page, "Run 3 jobs").click()
    expect(all_jobs(page)).to_contain_text("Started 3 jobs.")
    wait_until(lambda: len(site.storage.list("failed", "again")[0]) == 6)
    choose_for_all(page, "Run all again")
    reported = "Run 3 failed jobs in queue again again? 3 were already run again."
    expect(all_jobs(page)).to_contain_text(reported)
    listed = site.storage.list(queue="again")[0]
    assert {job.rerun_of for job in listed} == {None, *(job.id for job in jobs)}


def test_jobs_that_could_not_be_deleted_are_counted_by_reason(site: Site, page: Page) -> None:
    jobs = [fail(site, "no", f"rubbish {n}", "rubbish") for n in range(3)]
    visit(page, f"{site.url}/?queue=rubbish&status=failed")
    choose_for_all(page, "Delete all")
    expect(all_jobs(page)).to_contain_text(
        "Delete 3 failed jobs in queue rubbish? Their logs are deleted, too."
    )
    requests.delete(f"{site.api}/jobs/{jobs[1].id}").raise_for_status()
    button(page, "Delete 3 jobs").click()
    expect(all_jobs(page)).to_contain_text(
        "Deleted 2 of 3 jobs. Not done: 1 \u00d7 it no longer exists."
    )
    expect(row(page, "rubbish")).to_have_count(0)
    expect(button(page, "All matching jobs")).to_be_hidden()


# --- Queues ---------------------------------------------------------------------------------------


def test_a_queue_is_paused_with_a_reason_and_resumed(site: Site, page: Page) -> None:
    done = site.submit("true", "tide", queue="harbour")
    site.wait(done, "succeeded")
    visit(page, site.url)
    button(page, "More").click()
    button(page, "Pause harbour").click()
    page.get_by_label("Why is harbour paused?").fill("storm & <b>fog</b>")
    page.keyboard.press("Enter")
    expect(page.get_by_text("storm & <b>fog</b>")).to_be_visible()
    page.keyboard.press("Escape")
    job = site.submit("echo sailing", "ferry", queue="harbour")
    later = site.submit("true", "later ferry", not_before="2099-01-01T00:00:00Z")
    expect(button(page, "harbour paused")).to_be_visible()
    expect(row(page, "later ferry")).to_contain_text("at Jan 1")
    row(page, "ferry").last.click()
    expect(row(page, "ferry").last).to_contain_text("paused")
    expect(page.locator(".head-facts")).to_have_text("Queue paused: storm & <b>fog</b>")
    expect(state(page)).to_have_text("queued, paused")
    button(page, "harbour paused").click()
    button(page, "Resume harbour").click()
    expect(log_of(page)).to_contain_text("sailing")
    expect(button(page, "harbour paused")).to_be_hidden()
    site.wait(job, "succeeded")
    site.storage.cancel(later.id, "not needed")


# --- Accessibility --------------------------------------------------------------------------------


def test_axe_finds_nothing_serious_in_results_and_menus(site: Site, page: Page) -> None:
    fail(site, "leak in the roof", "roofer", "roof")
    requests.put(f"{site.api}/queues/roof/pause", json={"why": "rain"}).raise_for_status()
    for width in (1360, 390):
        page.set_viewport_size({"width": width, "height": 844})
        visit(page, f"{site.url}/?status=failed&queue=roof")
        expect(row(page, "roofer")).to_be_visible()
        choose_for_all(page, "Delete all")
        expect(button(page, "Cancel")).to_be_visible()
        button(page, "More").click()
        expect(button(page, "Resume roof")).to_be_visible()
        check_with_axe(page)
        page.keyboard.press("Escape")
        assert page.evaluate("document.scrollingElement.scrollWidth") <= width
        expect(search_all_logs(page, "leak in the roof").locator("mark")).to_have_count(1)
        check_with_axe(page)
    requests.delete(f"{site.api}/queues/roof/pause").raise_for_status()
