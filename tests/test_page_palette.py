"""The palette: typing instead of clicking."""

from __future__ import annotations

import re

import requests
from page_site import Site, check_with_axe, log_of, open_palette, row, submitted, visit
from playwright.sync_api import Locator, Page, expect


def options(page: Page) -> Locator:
    return page.get_by_role("listbox", name="Results").get_by_role("option")  # not of the queues


def test_the_palette_finds_any_job(idle_site: Site, page: Page) -> None:
    visit(page, f"{idle_site.url}/?status=queued")
    expect(row(page, "old 003")).to_have_count(0)  # it is not among the newest 200
    field = open_palette(page)
    field.fill("show")
    expect(options(page).first).to_contain_text("Show")
    check_with_axe(page)
    page.keyboard.press("Control+k")
    expect(field).to_be_hidden()
    open_palette(page).fill("old 003")
    expect(options(page).first).to_contain_text("old 003")
    expect(options(page).first).to_have_attribute("aria-selected", "true")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="old 003")).to_be_visible()
    open_palette(page).fill("last failure")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="train")).to_be_visible()
    open_palette(page).fill("still")  # a job that the page knows
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="still waiting")).to_be_visible()


def test_the_palette_runs_a_saved_command_with_its_values(page_site: Site, page: Page) -> None:
    params = [
        {"name": "VERSION", "label": "Version"},
        {"name": "PLACE", "default": "staging", "choices": ["staging", "live"]},
    ]
    command = {"command": "echo release $VERSION to $PLACE", "params": params}
    requests.put(f"{page_site.api}/saved/paletted", json=command).raise_for_status()
    visit(page, page_site.url)
    field = open_palette(page)
    field.fill("pal")
    expect(options(page).first).to_contain_text("Run paletted")
    page.keyboard.press("Enter")
    version = page.get_by_label("Version")
    expect(version).to_be_focused()
    page.keyboard.press("Escape")  # back to the list
    expect(field).to_be_focused()
    page.keyboard.press("Enter")
    expect(version).to_be_focused()
    page.keyboard.press("Enter")
    expect(version).to_have_attribute("aria-invalid", "true")
    page.keyboard.type("1.4")
    page.get_by_label("PLACE").select_option("live")
    version.press("Enter")
    submitted(page)
    expect(log_of(page)).to_have_text("release 1.4 to live")
    expect(version).to_be_hidden()


def test_the_palette_pauses_queues_filters_and_changes_the_theme(
    page_site: Site, page: Page
) -> None:
    job = page_site.submit("true", "in a queue", queue="palette-queue")
    page_site.wait(job, "succeeded")
    visit(page, f"{page_site.url}/?q=in+a+queue")
    expect(row(page, "in a queue")).to_be_visible()
    for question in ("Pause", "Resume"):
        open_palette(page).fill(f"{question} palette-q")
        expect(options(page).first).to_contain_text(f"{question} queue palette-queue")
        page.keyboard.press("Enter")
        if question == "Pause":
            expect(page.get_by_label("Reason")).to_be_focused()
            page.keyboard.type("freeze")
            page.keyboard.press("Enter")
            expect(page.get_by_role("button", name="palette-queue paused")).to_be_visible()
            (pause,) = requests.get(f"{page_site.api}/jobs?limit=1").json()["paused"]
            assert pause["why"] == "freeze"
    expect(page.get_by_role("button", name="palette-queue paused")).to_be_hidden()
    open_palette(page).fill("show failed")
    page.keyboard.press("Enter")
    expect(page).to_have_url(re.compile("status=failed"))
    open_palette(page).fill("go home")
    page.keyboard.press("Enter")
    expect(page).not_to_have_url(re.compile("status=|q="))
    open_palette(page).fill("theme dark")
    page.keyboard.press("Enter")
    expect(page.locator(":root")).to_have_attribute("data-theme", "dark")
    page.get_by_role("button", name="More", exact=True).click()
    page.get_by_role("button", name="Command palette").click()  # a phone has no keys
    page.get_by_role("option", name="Show keyboard shortcuts").click()
    expect(page.get_by_role("dialog", name="Keyboard shortcuts")).to_be_visible()
