"""The page: limits, keys, urgent jobs, jobs that wait for others, and saved commands in a row."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from conftest import wait_until
from page_site import Site, check_with_axe, log_of, row, submitted, visit, waiting
from playwright.sync_api import Locator, Page, expect

from tailboard.page import settings
from tailboard.page.client import ApiClient, Visitor
from tailboard.page.errands import change_some
from tailboard.saved_command import SavedCommand

UNKNOWN = "20200101-000000-00000000"
BUSY = "If another job has the key"


@pytest.fixture
def site(page_site: Site) -> Site:
    return page_site


def button(page: Page, name: str) -> Locator:
    return page.get_by_role("button", name=name, exact=True)


def head(page: Page) -> Locator:
    return page.locator(".head-facts")


def details(page: Page, name: str) -> Locator:
    """A row of the open job's details, which are open."""
    return page.locator(".details-panel").get_by_role("row", name=name)


def test_a_waiting_job_says_what_it_waits_for_with_links_in_both_directions(
    site: Site, page: Page, gate_file: Path
) -> None:
    first = site.submit(waiting(gate_file), "lay the keel")
    second = site.submit("echo painted", "paint the hull", after=[first.id], key="hull")
    site.wait(first, "running")
    visit(page, f"{site.url}/?job={second.id}")
    expect(row(page, "paint the hull")).to_contain_text("waits for “lay the keel”")
    expect(head(page)).to_have_text("waits for lay the keel")
    expect(page.locator(".blank")).to_have_text("Waits for lay the keel.")
    button(page, "Details").click()
    expect(details(page, "Key")).to_have_text("Keyhull")
    expect(details(page, "After").get_by_role("link", name="lay the keel")).to_be_visible()
    check_with_axe(page)
    button(page, "Move to the front").click()
    expect(button(page, "Do not start first")).to_be_visible()
    assert site.storage.get(second.id).urgent
    expect(details(page, "Urgent")).to_have_text("Urgentyes")
    expect(row(page, "paint the hull")).to_contain_text("urgent")
    button(page, "Do not start first").click()
    expect(button(page, "Move to the front")).to_be_visible()
    assert not site.storage.get(second.id).urgent
    head(page).get_by_role("link", name="lay the keel").click()
    expect(page).to_have_url(re.compile(first.id))
    button(page, "Details").click()
    details(page, "Waiting for this").get_by_role("link", name="paint the hull").click()
    expect(page).to_have_url(re.compile(second.id))
    gate_file.touch()
    expect(log_of(page)).to_have_text("painted")
    expect(button(page, "Move to the front")).to_be_hidden()
    expect(page.locator(".context")).to_have_text("after lay the keel")


def test_the_menu_of_queues_shows_and_sets_limits(site: Site, page: Page, gate_file: Path) -> None:
    one = site.submit(waiting(gate_file), "in the dock", queue="dock")
    site.wait(one, "running")
    site.storage.limits.set("dock", 1)
    two = site.submit("true", "at anchor", queue="dock")
    page.set_viewport_size({"width": 390, "height": 800})
    visit(page, f"{site.url}/?job={two.id}")
    expect(page.locator(".blank")).to_have_text(
        "Waits for a turn in queue dock, whose limit is 1: in the dock is running."
    )
    visit(page, f"{site.url}/?list=1")
    button(page, "More").click()
    item = page.get_by_role("group", name="Queues").get_by_role("listitem").filter(has_text="dock")
    expect(item).to_contain_text("1 of 1 running, 1 waiting")
    button(page, "Limit of dock").click()
    field = page.get_by_label("Jobs that run at a time")
    expect(field).to_have_value("1")
    for wrong in ("0", "many", "1.5"):
        field.fill(wrong)
        page.keyboard.press("Enter")
        sentence = "Limit must be a whole number from 1 to 10,000, or empty."
        expect(page.get_by_text(sentence)).to_be_visible()
        expect(field).to_be_focused()
        expect(field).to_have_value(wrong)
    check_with_axe(page)
    assert page.evaluate("document.scrollingElement.scrollWidth") <= 390
    field.fill("2")
    button(page, "Set the limit of dock").click()
    site.wait(two, "succeeded")
    expect(item).to_contain_text("1 of 2 running")
    button(page, "Limit of dock").click()
    field.fill("")
    page.keyboard.press("Enter")
    expect(item).to_contain_text("1 running")
    assert "dock" not in site.storage.limits.list()


def test_a_job_is_run_after_another_and_again_after_its_failure(
    site: Site, page: Page, gate_file: Path
) -> None:
    bait = site.submit(waiting(gate_file), "dig for bait")
    visit(page, f"{site.url}/?job={bait.id}")
    button(page, "More actions").click()
    button(page, "Run a job after this…").click()
    form = page.locator(".new-job")
    after = form.get_by_label("Start after these jobs")
    expect(after).to_have_value(bait.id)
    form.get_by_label("Command", exact=True).fill("echo a bite; exit 1")
    after.fill(f"{bait.id}, {UNKNOWN}")
    button(page, "Run job").click()
    expect(form.get_by_text(f"There is no job '{UNKNOWN}'")).to_be_visible()
    after.fill("yesterday")
    button(page, "Run job").click()
    expect(form.get_by_text("Enter up to 32 IDs of jobs, separated by spaces.")).to_be_visible()
    after.fill(bait.id)
    form.get_by_label("Also if they do not succeed").check()
    button(page, "Run job").click()
    expect(head(page)).to_contain_text("waits for dig for bait")
    fish = site.storage.get(submitted(page))
    assert (fish.after, fish.after_status) == ([bait.id], "ended")
    dinner = site.submit("true", "fry the fish", after=[fish.id])
    gate_file.touch()
    site.wait(dinner, "cancelled")
    expect(row(page, "fry the fish")).to_contain_text("“echo a bite; exit 1” failed")
    button(page, "More actions").click()
    button(page, "Run again with the jobs after it…").click()
    button(page, "Run again").last.click()
    expect(page).not_to_have_url(re.compile(fish.id))
    again = submitted(page)
    wait_until(lambda: any(job.rerun_of == dinner.id for job in site.storage.list(limit=9)[0]))
    (last,) = (job for job in site.storage.list(limit=9)[0] if job.rerun_of == dinner.id)
    assert (last.after, site.storage.get(again).rerun_of) == ([again], fish.id)


def test_a_rerun_of_many_says_which_were_not_queued(
    site: Site, gate_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = site.submit("true", "swab the deck", key="deck", if_busy="skip")
    site.wait(done, "succeeded")
    site.wait(site.submit(waiting(gate_file), "dance on deck", key="deck"), "running")
    monkeypatch.setattr(settings, "API", site.api)
    client = ApiClient("", Visitor(is_remote=False), {})
    result = change_some(client, {"errand": "change", "number": 1, "to": "rerun", "ids": [done.id]})
    assert result == {"tried": 1, "declined": ["another job has its key"]}


def test_the_run_form_keeps_a_choice_and_a_tick(site: Site, page: Page, gate_file: Path) -> None:
    holder = site.submit(waiting(gate_file), "moored", key="berth 3")
    site.wait(holder, "running")
    visit(page, site.url)
    button(page, "+ Run").click()
    form = page.locator(".new-job")
    form.get_by_label("Command", exact=True).fill("echo moored, too")
    form.get_by_text("More", exact=True).click()
    form.get_by_label(BUSY).select_option("skip")
    form.get_by_label("Urgent").check()
    page.reload()
    button(page, "+ Run").click()
    form.get_by_text("More", exact=True).click()
    expect(form.get_by_label(BUSY)).to_have_value("skip")
    expect(form.get_by_label("Urgent")).to_be_checked()
    button(page, "Run job").click()
    expect(form.get_by_text("Enter a key: the choice below needs one.")).to_be_visible()
    form.get_by_role("textbox", name="Key").fill("berth 3")
    expect(form.get_by_text("Enter a key: the choice below needs one.")).to_be_hidden()
    button(page, "Run job").click()
    expect(page.locator(".toast")).to_have_text("Nothing was queued: moored has the key berth 3.")
    expect(page).to_have_url(re.compile(holder.id))
    gate_file.touch()
    site.wait(holder, "succeeded")
    button(page, "+ Run").click()
    expect(form.get_by_label("Urgent")).not_to_be_checked()
    page.keyboard.press("Escape")
    options = {"key": "berth 4", "if_busy": "latest", "urgent": True}
    done = site.submit("true", "anchored", **options)
    site.wait(done, "succeeded")
    visit(page, f"{site.url}/?job={done.id}")
    button(page, "Edit and run…").click()
    expect(form.get_by_role("textbox", name="Key")).to_have_value("berth 4")
    expect(form.get_by_label(BUSY)).to_have_value("latest")
    expect(form.get_by_label("Urgent")).to_be_checked()
    button(page, "Run job").click()
    expect(page).not_to_have_url(re.compile(done.id))
    again = site.storage.get(submitted(page))
    assert (again.rerun_of, again.key, again.if_busy, again.urgent) == (
        *(done.id, "berth 4", "latest", True),
    )


def test_saved_commands_start_one_another_and_link_both_ways(site: Site, page: Page) -> None:
    for name in ("load-cargo", "set-sail"):
        site.storage.saved.save(SavedCommand(saved=name, command=f"echo {name}"))
    page.set_viewport_size({"width": 390, "height": 844})
    visit(page, f"{site.url}/?saved=load-cargo")
    button(page, "Edit…").click()
    form = page.locator(".save-dialog")
    form.get_by_text("More options").click()
    form.get_by_role("textbox", name="Key").fill("$PORT")
    form.get_by_label(BUSY).select_option("replace")
    form.get_by_label("Urgent").check()
    form.get_by_label("Then").fill("load-cargo")
    button(page, "Save").click()
    expect(form.get_by_text("PORT")).to_be_visible()
    form.get_by_role("textbox", name="Key").fill("cargo")
    button(page, "Save").click()
    expect(form.get_by_text("load-cargo would start itself again")).to_be_visible()
    expect(form.get_by_label("Then")).to_be_focused()
    form.get_by_label("Then").fill("set-sail")
    check_with_axe(page)
    button(page, "Save").click()
    order = page.locator(".saved-order")
    expect(order).to_have_text("then set-sail")
    kept = site.storage.saved.load("load-cargo")
    assert (kept.key, kept.if_busy, kept.urgent, kept.then) == (
        *("cargo", "replace", True, "set-sail"),
    )
    button(page, "Edit…").click()
    expect(form.get_by_label(BUSY)).to_have_value("replace")
    expect(form.get_by_label("Urgent")).to_be_checked()
    expect(form.get_by_label("Then")).to_have_value("set-sail")
    page.keyboard.press("Escape")
    order.get_by_role("link", name="set-sail").click()
    expect(order).to_have_text("after load-cargo")
    order.get_by_role("link", name="load-cargo").click()
    page.set_viewport_size({"width": 1280, "height": 800})
    button(page, "Run").click()
    expect(log_of(page)).to_have_text("load-cargo")
    button(page, "Details").click()
    expect(details(page, "Then")).to_have_text("Thenset-sail: set-sail")
    details(page, "Then").locator("[data-job]").click()
    expect(log_of(page)).to_have_text("set-sail")
    expect(page.locator(".context")).to_have_text("after load-cargo")
