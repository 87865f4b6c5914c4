"""The page's home, which is shown while no log is open. In real Chromium, before a real API and a
real worker."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import requests
from page_site import (
    Serve,
    Site,
    check_with_axe,
    choose_interval,
    log_of,
    open_palette,
    row,
    state,
    visit,
    waiting,
)
from playwright.sync_api import Locator, Page, expect

from tailboard.page.home import SentNames, digest

PHONE = {"width": 390, "height": 844}
WIDE = {"width": 1280, "height": 800}


@pytest.fixture
def site(page_site: Site) -> Site:
    return page_site


def home(page: Page) -> Locator:
    return page.get_by_role("region", name="Home")


def part(page: Page, name: str) -> Locator:
    """A section of the home."""
    return home(page).get_by_role("region", name=name)


def item(page: Page, section: str, text: str) -> Locator:
    return part(page, section).get_by_role("listitem").filter(has_text=text)


def button(where: Locator, name: str) -> Locator:
    return where.get_by_role("button", name=name)


def save(site: Site, name: str, **command: Any) -> None:
    body = {"command": "true", **command}
    requests.put(f"{site.api}/saved/{name}", json=body).raise_for_status()


# Goes to a log and back, each after some frames, which differ from visit to visit.
VISIT_LOG = """async ({ address, frames }) => {
    for (const [query, count] of [[address, 6 + frames], ["?", 4 + 2 * (frames % 7)]]) {
        history.pushState({}, "", query);
        dispatchEvent(new PopStateEvent("popstate"));
        for (let frame = 0; frame < count; frame += 1) {
            await new Promise(requestAnimationFrame);
        }
    }
}"""


def fail(site: Site, name: str, times: int) -> str:
    """Jobs with the same name that fail; returns the ID of the newest."""
    for _ in range(times):
        job = site.submit("echo 'Error: the disk is full'; exit 7", name)
        site.wait(job, "failed")
    return job.id


def test_running_jobs_show_their_last_line_and_can_be_cancelled(
    site: Site, page: Page, gate_file: Path
) -> None:
    command = f"echo first; printf '\\033[31msecond <b>\\033[0m\\n'; {waiting(gate_file)}"
    job = site.submit(command, "home-runner", submitted_by="anna")
    visit(page, site.url)
    running = item(page, "Running now", "home-runner")
    running.scroll_into_view_if_needed()  # other tests' failures may be above it
    expect(running.locator("code")).to_have_text("second <b>")
    expect(running).to_contain_text("anna")
    button(running, "Cancel home-runner").click()
    expect(running).to_contain_text("It gets SIGTERM, then SIGKILL after 10 s.")
    expect(button(running, "Cancel job")).to_be_focused()
    page.keyboard.press("Escape")
    expect(button(running, "Cancel home-runner")).to_be_focused()
    page.keyboard.press("Enter")
    button(running, "Cancel job").click()
    expect(running).to_have_count(0)
    site.wait(job, "cancelled")


def test_a_failure_needs_attention_until_it_is_dismissed_or_its_log_was_shown(
    site: Site, page: Page
) -> None:
    fail(site, "home-backup", 3)
    newest = fail(site, "home-import", 1)
    visit(page, site.url)
    backup = item(page, "Needs attention", "home-backup")
    expect(backup.locator(".home-count")).to_have_text(re.compile("3$"))
    expect(backup).to_contain_text("Error: the disk is full")
    page.reload()
    button(backup, "Dismiss home-backup").click()
    expect(backup).to_have_count(0)
    item(page, "Needs attention", "home-import").get_by_role("link").click()
    expect(page).to_have_url(re.compile(newest))
    expect(state(page)).to_contain_text("exit 7")
    page.go_back()
    expect(part(page, "Needs attention")).to_be_visible()
    expect(item(page, "Needs attention", "home-import")).to_have_count(0)
    fail(site, "home-backup", 2)
    expect(backup.locator(".home-count")).to_have_text(re.compile("2$"))
    button(backup, "Run again home-backup").click()
    expect(log_of(page)).to_contain_text("the disk is full")


def test_the_home_stays_up_to_date_after_many_visits_to_a_log(site: Site, page: Page) -> None:
    """Streamlit then starts many runs, and each may replace the next."""
    ended = site.submit("true", "home-visited")
    site.wait(ended, "succeeded")
    visit(page, site.url)
    for frames in range(12):
        page.evaluate(VISIT_LOG, {"address": f"?job={ended.id}", "frames": frames})
    fail(site, "home-late", 1)
    expect(item(page, "Needs attention", "home-late")).to_be_visible()


def test_waiting_jobs_and_schedules_need_attention_and_can_be_resumed(
    site: Site, page: Page
) -> None:
    pause = {"why": "repairs", "by": "anna"}
    requests.put(f"{site.api}/queues/home-q/pause", json=pause).raise_for_status()
    job = site.submit("true", "home-waits", queue="home-q")
    save(site, "home-nightly", cron="* * * * *", paused=True)
    save(site, "home-weekly", cron="*/5 * * * *", zone="Asia/Tokyo")
    visit(page, site.url)
    waits = item(page, "Needs attention", "The queue home-q is paused by anna: repairs")
    for width in (640, 820):  # 640: a zoom of 200 %
        page.set_viewport_size({"width": width, "height": 400})
        expect(page.get_by_role("button", name="home-q paused")).to_be_in_viewport(ratio=1)
        expect(page.get_by_role("button", name="More", exact=True)).to_be_in_viewport(ratio=1)
    page.set_viewport_size(WIDE)  # type: ignore[arg-type]
    expect(waits).to_contain_text("1 job is waiting.")
    button(waits, "Resume the queue home-q").click()
    expect(waits).to_have_count(0)
    site.wait(job, "succeeded")
    expect(item(page, "Next", "home-weekly")).to_contain_text(re.compile(r"in \d+ (min|s)"))
    expect(item(page, "Next", "home-weekly")).to_contain_text("Asia/Tokyo")
    expect(item(page, "Next", "home-nightly")).to_contain_text("paused")
    stopped = item(page, "Needs attention", "The schedule of home-nightly is paused.")
    button(stopped, "Resume schedule home-nightly").click()
    expect(stopped).to_have_count(0)
    expect(item(page, "Next", "home-nightly")).not_to_contain_text("paused")
    for name in ("home-nightly", "home-weekly"):
        requests.delete(f"{site.api}/saved/{name}").raise_for_status()


def test_each_name_has_a_bar_for_each_of_its_last_runs(site: Site, page: Page) -> None:
    save(site, "home-deploy", command="echo to $PLACE", params=[{"name": "PLACE", "default": "x"}])
    ids = []
    for command in ("sleep 0.2", "exit 3"):
        job = site.submit(command, "home-train")
        site.wait(job, "failed" if "exit" in command else "succeeded")
        ids.append(job.id)
    requests.post(f"{site.api}/saved/home-deploy/run", json={}).raise_for_status()
    visit(page, site.url)
    train = item(page, "Names", "home-train")
    bars = train.get_by_role("group", name="Last runs of home-train").get_by_role("link")
    expect(bars).to_have_count(2)
    expect(train).to_contain_text("50 %")
    bars.last.focus()
    page.keyboard.press("ArrowLeft")
    expect(bars.first).to_be_focused()
    expect(bars.first).to_have_accessible_name(re.compile(r"succeeded, 0\.\d s"))
    page.keyboard.press("Enter")
    expect(page).to_have_url(re.compile(ids[0]))
    page.go_back()
    train.get_by_role("link", name="home-train").first.click()
    expect(row(page, "home-train")).to_have_count(2)
    expect(page).to_have_url(re.compile("q=home-train"))
    button(item(page, "Names", "home-deploy"), "Run home-deploy").click()
    expect(page.get_by_label("PLACE")).to_have_value("x")


def test_on_a_phone_the_home_comes_first_and_leads_to_the_list(site: Site, page: Page) -> None:
    page.set_viewport_size(PHONE)
    site.wait(site.submit("true", "home-phone"), "succeeded")
    visit(page, site.url)
    expect(part(page, "Names")).to_be_visible()
    expect(row(page, "home-phone")).to_be_hidden()
    page.get_by_role("link", name="All jobs").click()
    expect(row(page, "home-phone").first).to_be_visible()
    expect(home(page)).to_be_hidden()
    page.reload()
    row(page, "home-phone").first.click()
    expect(state(page)).to_contain_text("succeeded")
    page.get_by_role("button", name="Back", exact=True).click()
    expect(row(page, "home-phone").first).to_be_visible()
    page.get_by_role("link", name=re.compile("Home$")).click()
    expect(part(page, "Names")).to_be_visible()
    page.go_back()
    expect(home(page)).to_be_hidden()
    visit(page, f"{site.url}/?q=home-phone")
    expect(row(page, "home-phone").first).to_be_visible()
    expect(home(page)).to_be_hidden()


def test_a_first_visit_explains_the_page_and_starts_an_example(serve: Serve, page: Page) -> None:
    with serve(worker=False) as site:
        visit(page, site.url)
        expect(home(page)).to_contain_text("shows their logs live")
        expect(home(page)).to_contain_text("No worker is running. Start one:")
        expect(page.get_by_role("heading", name="No jobs yet")).to_be_visible()
        page.keyboard.press("c")
        saved = page.get_by_text("Save a command to run it again with different values")
        expect(saved).to_be_visible()
        page.keyboard.press("Escape")
        expect(saved).to_be_hidden()
        open_palette(page).fill("last failure")
        page.keyboard.press("Enter")
        expect(page.get_by_text("No job has failed.")).to_be_visible()
        button(home(page), "count to ten").click()
        expect(page).to_have_url(re.compile("job=20"))
        expect(page.get_by_role("heading", name="count to ten")).to_be_visible()
        expect(state(page)).to_have_text("queued, 1st, no worker")
        expect(page.locator(".blank")).to_contain_text("No worker is running. Start one:")
        assert [job.name for job in site.storage.list()[0]] == ["count to ten"]
        page.go_back()
        worker = item(page, "Needs attention", "No worker is running. Start one:")
        expect(worker).to_contain_text("1 job is waiting.")
        site.kill_api()
        visit(page, site.url)
        expect(home(page)).to_contain_text("Can't reach the API")
        expect(page.get_by_text("No jobs yet")).to_be_hidden()
        expect(button(home(page), "count to ten")).to_have_count(0)
        choose_interval(page, "1 s")
        site.restart_api()
        expect(worker).to_contain_text("1 job is waiting.")


def test_a_browser_receives_only_the_names_that_have_changed() -> None:
    def names(*rows: tuple[str, int]) -> dict[str, Any]:
        listed = [{"name": name, "ended": ended} for name, ended in rows]
        return {"names": listed, "more": 0, "complete": True}

    sent = SentNames()
    first, second = names(("a", 1), ("b", 1), ("c", 1)), names(("b", 2), ("a", 1), ("d", 1))
    assert sent.changes(first, digest(first), "") == first
    changes = sent.changes(second, digest(second), digest(first))
    assert [row["name"] for row in changes["changed"]] == ["b", "d"]
    assert changes["gone"] == ["c"]
    assert sent.changes(second, digest(second), "an unknown version") == second


def test_axe_finds_nothing_in_the_home(site: Site, page: Page, gate_file: Path) -> None:
    fail(site, "home-axe", 2)
    site.submit(waiting(gate_file), "home-runs")
    save(site, "home-axe-job", cron="@hourly", paused=True)
    for size in (WIDE, PHONE):
        page.set_viewport_size(size)  # type: ignore[arg-type]
        visit(page, site.url)
        expect(item(page, "Needs attention", "home-axe").first).to_be_visible()
        expect(item(page, "Next", "home-axe-job")).to_be_visible()
        button(item(page, "Running now", "home-runs"), "Cancel home-runs").click()
        check_with_axe(page)
        assert page.evaluate("document.scrollingElement.scrollWidth") <= size["width"]
    requests.delete(f"{site.api}/saved/home-axe-job").raise_for_status()
