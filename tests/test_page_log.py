"""The log pane in a real browser: its lines, their numbers, links and colours."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal

from page_site import Site, log_of, state, visit, waiting
from playwright.sync_api import BrowserContext, Locator, Page, expect


def foot(page: Page, text: str) -> None:
    """Waits until the footer shows this after the range of visible lines."""
    expect(page.locator(".size")).to_have_text(re.compile(text))


# --- The footer -----------------------------------------------------------------------------------


def test_the_footer_counts_each_line_once(page_site: Site, page: Page, tmp_path: Path) -> None:
    """The log is opened by a link to its start and within an unfinished line, and the API restarts
    while more is written."""
    first, second = tmp_path / "first", tmp_path / "second"
    later = f"{waiting(first)}; echo ' more'; seq 100; {waiting(second)}; seq 50"
    job = page_site.submit(f"seq 3000; printf half; {later}", "counted")
    page_site.wait(job, "running")
    visit(page, f"{page_site.url}/?job={job.id}&at=0")
    foot(page, r"^lines 1.\d+ of 3,001$")
    page_site.kill_api()
    expect(state(page)).to_have_text(re.compile("reconnecting"))
    first.touch()
    page_site.restart_api()
    foot(page, "of 3,101$")
    second.touch()
    page_site.wait(job, "succeeded")
    foot(page, "of 3,151$")
    page.get_by_role("button", name="End", exact=True).click()
    expect(log_of(page)).to_contain_text("half more")
    foot(page, ".3,151 of 3,151$")


# --- Links and styles -----------------------------------------------------------------------------


def test_a_url_in_a_log_opens_in_another_tab(page_site: Site, page: Page) -> None:
    target = f"{page_site.api}/healthz"
    bare = f"see {target}, and <b>javascript:alert(1)</b>"
    named = f"\x1b]8;;{target}?osc\x07a \x1b[7mstatus\x1b[m page\x1b]8;;\x07"
    job = page_site.python(f"print({bare!r}); print({named!r})", "with links")
    page_site.wait(job, "succeeded")
    visit(page, f"{page_site.url}/?job={job.id}")
    log = log_of(page)
    expect(log.get_by_role("link")).to_have_text([target, "a status page"])
    expect(log).to_contain_text("<b>javascript:alert(1)</b>")
    inverse = log.locator(".ansi-inverse")
    ground = inverse.evaluate("node => getComputedStyle(node).backgroundColor")
    assert ground == log.evaluate("node => getComputedStyle(node).color")
    with page.expect_popup() as opened:
        log.get_by_role("link", name=target).click()
    assert opened.value.url == target
    assert opened.value.evaluate("opener") is None
    opened.value.close()
    expect(page).not_to_have_url(re.compile("at="))


def test_times_have_a_column_of_their_own(page_site: Site, page: Page) -> None:
    job = page_site.submit("sleep 1.1; echo " + "long " * 200, "timed")
    page_site.wait(job, "succeeded")
    visit(page, f"{page_site.url}/?job={job.id}")
    page.get_by_label("Times").select_option("Time of day")
    time = log_of(page).locator("time")
    expect(time).to_have_text(re.compile(r"^\d\d:\d\d:\d\d$"))
    column = time.bounding_box()
    text = log_of(page).locator(".line > span").bounding_box()
    assert column and text and text["height"] > 2 * column["height"]  # it is wrapped
    assert column["x"] + column["width"] < text["x"]
    page.locator("body").press("t")
    expect(time).to_have_text(re.compile(r"^0:0[1-9]$"))
    time.hover()
    expect(time).to_have_attribute("title", re.compile(r"\d\.\d{3}, \d\.\d s after the start$"))
    page.locator("body").press("t")
    expect(log_of(page).locator(".line")).to_be_visible()
    expect(time).to_have_count(0)


# --- Links to lines -------------------------------------------------------------------------------


def number(page: Page, line: int) -> Locator:
    return log_of(page).locator(f'.line[data-line="{line}"]')


def click_number(page: Page, line: int, *modifiers: Literal["Shift"]) -> None:
    number(page, line).click(position={"x": 50, "y": 8}, modifiers=modifiers)


def test_lines_are_selected_linked_and_copied(
    page_site: Site, page: Page, context: BrowserContext
) -> None:
    context.grant_permissions(["clipboard-read", "clipboard-write"])
    job = page_site.submit("seq -f 'line %.0f' 20000", "selected")
    page_site.wait(job, "succeeded")
    visit(page, f"{page_site.url}/?job={job.id}")
    number(page, 19_985).hover()
    page.get_by_role("button", name="Copy a link to this line").click()
    expect(page.get_by_text("Link copied")).to_be_visible()
    first = page.evaluate("navigator.clipboard.readText()")
    bar = page.get_by_role("group", name="Selected lines")
    click_number(page, 19_990)
    expect(bar).to_contain_text("Line 19,990")
    click_number(page, 19_988, "Shift")
    expect(bar).to_contain_text(re.compile("Lines 19,988.19,990"))
    marked = ["line 19988", "line 19989", "line 19990"]
    expect(log_of(page).locator(".marked")).to_have_text(marked)
    assert page.evaluate("getSelection().toString()") == ""
    bar.get_by_role("button", name="Copy lines").click()
    expect(bar.get_by_role("button", name="Copied")).to_be_visible()
    assert page.evaluate("navigator.clipboard.readText()") == "\n".join(marked)
    bar.get_by_role("button", name="Copy link").click()
    page.wait_for_function("async () => (await navigator.clipboard.readText()).includes('at=')")
    link = page.evaluate("navigator.clipboard.readText()")
    assert link.partition("&")[0] == f"{page_site.url}/?job={job.id}"

    page.locator("body").press("Escape")
    expect(bar).to_be_hidden()
    expect(page).not_to_have_url(re.compile("at="))
    page.locator("body").press(":")
    field = page.get_by_label("Go to line")
    field.fill("20001")
    field.press("Enter")
    expect(page.get_by_text("The last line is 20,000.")).to_be_visible()
    field.fill("9-7")
    field.press("Enter")
    expect(log_of(page).locator(".marked")).to_have_text(["line 7", "line 8", "line 9"])
    expect(number(page, 7)).to_be_in_viewport()
    expect(field).to_be_hidden()

    visit(page, first)
    expect(log_of(page).locator(".marked")).to_have_text("line 19985")
    visit(page, link)
    expect(log_of(page).locator(".marked")).to_have_text(marked)
    expect(number(page, 19_988)).to_be_in_viewport()
    expect(bar).to_contain_text(re.compile("Lines 19,988.19,990"))
