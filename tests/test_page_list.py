"""The list of jobs: searches among many jobs, filters and their counts, rows and keys, and what the
page shows while it loads and while nothing answers."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import ROOT, free_port, wait_until
from page_site import (
    Site,
    check_with_axe,
    choose_interval,
    counting,
    log_of,
    row,
    state,
    visit,
    waiting,
)
from playwright.sync_api import BrowserContext, Locator, Page, Route, WebSocket, expect

from tailboard.status import Status

# Clicks on a filter and returns the status of each row that is then shown, in the same task.
CLICK_FILTER = """list => {
    list.querySelector(".filters a[title='timed out']").click();
    const icons = [...list.querySelectorAll(".rows a > .icon + .unseen")];
    return icons.map((icon) => icon.textContent);
}"""


@pytest.fixture
def site(page_site: Site) -> Site:
    return page_site


@pytest.fixture
def gate(gate_file: Path) -> Path:
    return gate_file


def status_filter(page: Page, name: str) -> Locator:
    return page.get_by_role("navigation", name="Status").get_by_role("link", name=name)


# --- Many jobs ------------------------------------------------------------------------------------


def test_a_search_continues_through_all_jobs_and_counts_agree(idle_site: Site, page: Page) -> None:
    visit(page, f"{idle_site.url}/?q=fail.py")
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


def test_one_noisy_job_does_not_hide_the_others(idle_site: Site, page: Page) -> None:
    visit(page, f"{idle_site.url}/?status=succeeded")
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


def test_all_filters_fit_on_a_phone(idle_site: Site, page: Page) -> None:
    page.set_viewport_size({"width": 360, "height": 740})
    visit(page, f"{idle_site.url}/?status=lost")
    names = ("all", "running", "failed", "succeeded", "timed out", "lost")
    for name in names:
        expect(status_filter(page, name)).to_be_in_viewport(ratio=1)
    expect(status_filter(page, "lost")).to_have_attribute("aria-current", "true")
    check_with_axe(page)
    page.set_viewport_size({"width": 900, "height": 740})
    word = status_filter(page, "timed out").locator(".word")
    expect(word).to_be_in_viewport(ratio=1)
    assert (word.bounding_box() or {"width": 0})["width"] > 20


def test_a_filter_shows_the_known_rows_in_the_same_frame(idle_site: Site, page: Page) -> None:
    visit(page, f"{idle_site.url}/?q=ai")
    expect(row(page, "train")).to_be_visible()
    expect(row(page, "daily 7")).to_be_attached()
    shown = page.locator(".job-list").evaluate(CLICK_FILTER)
    assert shown == ["timed out"]
    expect(page.locator(".job-list.stale")).to_have_count(0)
    expect(row(page, "train")).to_be_visible()


def test_the_list_can_be_filtered_searched_paged_and_linked_to(idle_site: Site, page: Page) -> None:
    visit(page, idle_site.url)
    expect(page.get_by_text("No worker is running. Start one:")).to_be_visible()
    status = page.get_by_role("navigation", name="Status")
    expect(status.get_by_role("link", name="cancelled")).to_contain_text("205")
    status.get_by_role("link", name="cancelled").click()
    expect(row(page, "still waiting")).to_have_count(0)
    expect(page).to_have_url(re.compile(r"status=cancelled"))
    expect(row(page, "old")).to_have_count(200)
    page.get_by_role("link", name="Older jobs").click()
    expect(row(page, "old")).to_have_count(5)
    page.get_by_role("link", name="Newest jobs").click()
    page.get_by_label("Search jobs").fill("old 117")
    expect(row(page, "old")).to_have_count(1)
    expect(status.get_by_role("link", name="cancelled")).to_have_text("⊘cancelled 1")
    row(page, "old 117").focus()
    page.keyboard.press("Enter")
    expect(page.get_by_text("not needed")).to_be_visible()
    expect(page).to_have_url(re.compile(r"status=cancelled&q=old\+117&job=20"))
    expect(row(page, "old 117")).to_be_focused()
    page.get_by_role("button", name="Close").click()
    expect(log_of(page)).to_be_hidden()
    page.reload()
    expect(row(page, "old")).to_have_count(1)
    page.get_by_label("Search jobs").fill("no such job")
    page.get_by_role("link", name="Clear").click()
    expect(row(page, "still waiting")).to_be_visible()
    expect(status.get_by_role("link", name="all")).to_have_text("all 2,841")


def test_the_chosen_queue_is_in_the_address(site: Site, page: Page) -> None:
    for queue in ("default", "gpu"):
        site.wait(site.submit("true", f"in {queue}", queue=queue), "succeeded")
    visit(page, site.url)
    page.get_by_role("combobox", name="Queue").select_option("gpu")
    expect(row(page, "in default")).to_have_count(0)
    expect(row(page, "in gpu")).to_be_visible()
    expect(page).to_have_url(re.compile("queue=gpu"))
    visit(page, page.url)
    expect(row(page, "in gpu")).to_be_visible()
    expect(row(page, "in default")).to_have_count(0)
    status = page.get_by_role("navigation", name="Status")
    expect(status.get_by_role("link", name="succeeded")).to_have_text("✓succeeded 1")


def test_neighbours_with_the_same_name_fold_and_a_click_unfolds_them(
    site: Site, page: Page
) -> None:
    for n in range(4):
        site.wait(site.submit(f"exit {n % 2}", "backup db1"), "failed" if n % 2 else "succeeded")
    visit(page, f"{site.url}/?q=backup+db1")
    expect(row(page, "backup db1")).to_have_count(1)
    expect(row(page, "backup db1")).to_contain_text(re.compile(".4"))
    expect(row(page, "backup db1")).to_contain_text("2 failed, 2 succeeded")
    expect(row(page, "backup db1").locator(".bars u")).to_have_count(4)
    row(page, "backup db1").click()
    expect(row(page, "backup db1")).to_have_count(5)
    expect(log_of(page)).to_be_hidden()
    row(page, "2 failed, 2 succeeded").click()
    expect(row(page, "backup db1")).to_have_count(1)


def test_the_list_can_be_widened_and_stays_wide(site: Site, page: Page) -> None:
    visit(page, site.url)
    divider = page.get_by_role("separator", name="List width")
    divider.drag_to(page.locator("body"), target_position={"x": 500, "y": 400}, force=True)
    expect(divider).to_have_attribute("aria-valuenow", re.compile("49.|50."))
    visit(page, site.url)
    expect(divider).to_have_attribute("aria-valuenow", re.compile("49.|50."))
    divider.press("ArrowLeft")
    expect(divider).to_have_attribute("aria-valuenow", re.compile("47.|48."))


def test_only_the_changes_of_a_long_list_are_sent(idle_site: Site, page: Page) -> None:
    received: list[bytes] = []

    def largest() -> int:
        """The size of the largest message since the last call, in bytes; none may contain an old
        row."""
        assert not any(b"old 117" in message for message in received)
        size = max(map(len, received))
        received.clear()
        return size

    def listen(socket: WebSocket) -> None:
        socket.on("framereceived", collect_into(received))

    page.once("websocket", listen)
    visit(page, idle_site.url)
    choose_interval(page, "1 s")
    wait_until(lambda: any(b"old 117" in message for message in received))
    whole = max(map(len, received))
    first = idle_site.submit("true", "first passer")  # a page that loads may get the list twice
    expect(row(page, "first passer")).to_be_visible()
    received.clear()
    job = idle_site.submit("true", "passing by")
    expect(row(page, "passing by")).to_contain_text("queued")
    sizes = [largest()]
    idle_site.storage.cancel(job.id, "not needed")
    expect(row(page, "passing by")).to_contain_text("cancelled")
    sizes.append(largest())
    row(page, "passing by").click()
    expect(state(page)).to_have_text("cancelled")
    idle_site.storage.delete(job.id)
    expect(row(page, "passing by")).to_have_count(0)
    sizes.append(largest())
    idle_site.storage.cancel(first.id, "not needed")
    idle_site.storage.delete(first.id)
    print("bytes of the whole list", whole, "and of changes of a job", sizes)
    assert max(sizes) < whole / 5
    expect(page.get_by_role("list", name="Jobs").get_by_role("link")).to_have_count(200)


def collect_into(received: list[bytes]) -> Callable[[str | bytes], None]:
    return lambda message: received.append(
        message if isinstance(message, bytes) else message.encode()
    )


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


# --- Rows and keys --------------------------------------------------------------------------------


def test_a_click_selects_at_once_and_keeps_scroll_and_focus(idle_site: Site, page: Page) -> None:
    visit(page, idle_site.url)
    rows = page.get_by_role("list", name="Jobs")
    target = row(page, "old 020")
    target.scroll_into_view_if_needed()
    target.evaluate("link => { window.before = link; link.focus() }")
    scrolled = rows.evaluate("list => list.scrollTop")
    assert scrolled > 2_000
    selected = target.evaluate("link => { link.click(); return link.ariaCurrent }")
    assert selected == "true"  # in the same frame
    expect(page.get_by_text("No output.")).to_be_visible()
    page.go_back()
    expect(log_of(page)).to_be_hidden()
    page.go_forward()
    expect(page.get_by_text("No output.")).to_be_visible()
    assert rows.evaluate("list => list.scrollTop") == scrolled
    assert target.evaluate("link => link === before")
    expect(target).to_be_focused()


def test_a_slow_click_on_a_changing_row_is_not_lost(site: Site, page: Page, gate: Path) -> None:
    """A browser drops a click if its target is replaced before the button is released."""
    job = site.submit(waiting(gate), "slow click")
    site.wait(job, "running")
    visit(page, site.url)
    choose_interval(page, "1 s")
    row(page, "slow click").locator(".name").hover()
    page.mouse.down()
    before = site.listed()
    wait_until(lambda: site.listed() > before + 2)
    page.mouse.up()
    expect(page).to_have_url(re.compile(job.id))
    expect(state(page)).to_have_text("live")


def test_a_row_is_a_link_that_opens_in_another_tab(
    site: Site, page: Page, context: BrowserContext
) -> None:
    job = site.submit("echo in its own tab", "linked row")
    site.wait(job, "succeeded")
    visit(page, site.url)
    with context.expect_page() as opened:
        jobs = page.get_by_role("list", name="Jobs")
        jobs.get_by_role("link", name="linked row").click(modifiers=["ControlOrMeta"])
    expect(log_of(opened.value)).to_have_text("in its own tab")
    expect(log_of(page)).to_be_hidden()


def test_keys_move_through_the_list_and_it_is_one_tab_stop(idle_site: Site, page: Page) -> None:
    visit(page, f"{idle_site.url}/?status=cancelled")
    stops = page.get_by_role("list", name="Jobs").locator("a[tabindex='0']")
    expect(stops).to_have_count(1)
    page.keyboard.press("j")
    expect(row(page, "old 204")).to_be_focused()
    page.keyboard.press("j")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("k")
    expect(row(page, "old 203")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="old 203")).to_be_visible()
    expect(row(page, "old 203")).to_be_focused()
    expect(stops).to_have_count(1)
    page.keyboard.press("z")
    expect(row(page, "old 203")).to_be_hidden()
    page.keyboard.press("z")
    page.keyboard.press("/")
    expect(page.get_by_label("Search jobs")).to_be_focused()
    page.keyboard.press("Escape")
    page.get_by_role("heading", name="old 203").click()
    page.keyboard.press("?")
    expect(page.get_by_role("row", name="next error")).to_be_visible()


# --- While the page loads, or nothing answers -----------------------------------------------------


def test_a_shortcut_does_nothing_until_the_page_is_ready(idle_site: Site, page: Page) -> None:
    """A dialog without style gets no focus, and text typed into it would be lost."""
    held: list[Route] = []
    page.route("**/dashboard.css*", lambda route: held.append(route))
    with page.expect_request("**/dashboard.css*"):
        page.goto(idle_site.url)
    for _ in range(50):
        page.keyboard.press("c")
        page.evaluate("new Promise(requestAnimationFrame)")
    expect(page.locator("dialog[open]")).to_have_count(0)
    for route in held:
        route.continue_()
    expect(page.locator(".page-header:not([inert])")).to_be_attached()
    page.keyboard.press("c")
    expect(page.get_by_label("Command", exact=True)).to_be_focused()


def test_the_parts_of_the_page_may_load_in_any_order(idle_site: Site, page: Page) -> None:
    queued, _ = idle_site.storage.list(Status.QUEUED)
    job = next(job for job in queued if job.name == "still waiting")
    held: list[Route] = []

    def hold(route: Route) -> None:
        """Holds back the imported module, but not the files that are fetched for a new version."""
        if route.request.resource_type == "script":
            held.append(route)
        else:
            route.continue_()

    page.route("**/page_header.js", hold)
    page.goto(f"{idle_site.url}/?job={job.id}")
    expect(state(page)).to_have_text("queued, 1st")
    held[0].continue_()
    expect(state(page)).to_have_text("queued, 1st, no worker")
    expect(page.get_by_test_id("stException")).to_have_count(0)


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


def test_the_list_is_complete_after_the_pages_server_was_down(site: Site, page: Page) -> None:
    """The server has then forgotten what it had sent to this browser."""
    site.wait(site.submit("true", "from before"), "succeeded")
    with site.serve_dashboard() as url:
        visit(page, url)
        expect(row(page, "from before")).to_be_visible()
        site.kill_dashboard(url)
        site.submit("true", "from meanwhile")
        site.start_dashboard(ROOT, url)
        expect(row(page, "from meanwhile")).to_be_visible()
        expect(row(page, "from before")).to_be_visible()
