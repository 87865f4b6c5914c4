"""Sections and annotations in the log pane of a real browser."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from conftest import wait_until
from page_site import Site, check_with_axe, log_of, row, shift_clock, visit, waiting
from playwright.sync_api import BrowserContext, Locator, Page, expect

BUILD = r"""
import sys
print("before all sections")
print("--- Checkout")
print("cloning")
print("--- \x1b[33mCompile\x1b[m")
for n in range(6000): print(f"compiling module {n}")
print("::progress 40 of 90 linking")
print("::warning file=src/a.c,line=17::unused variable")
print("+++ Test")
print("::error file=tests/a.py,line=3::expected <b>3</b>")
print("Error: a test failed")
print("::group::Coverage")
for n in range(30): print(f"covered {n}")
print("::endgroup::")
print("2026-11-30T08:00:00Z --- Clean up")
print("removing files")
sys.exit(1)
"""


@pytest.fixture(scope="module")
def build(page_site: Site) -> str:
    """The address of a failed job with five sections. More than 100 KB are in the second one."""
    job = page_site.python(BUILD, "sections of a build")
    page_site.wait(job, "failed")
    return f"{page_site.url}/?job={job.id}"


def header(page: Page, name: str) -> Locator:
    return log_of(page).get_by_role("button", name=f"Section {name}")


def expect_folded(page: Page, name: str, folded: bool) -> None:
    expect(header(page, name)).to_have_attribute("aria-expanded", str(not folded).lower())


def line(page: Page, text: str) -> Locator:
    return log_of(page).locator(".line", has_text=re.compile(f"{text}$"))


def test_sections_fold_except_the_last_one_and_those_with_errors(build: str, page: Page) -> None:
    visit(page, build)
    for name in ("Checkout", "Compile", "Coverage"):
        expect_folded(page, name, True)
    for name in ("Test", "Clean up"):
        expect_folded(page, name, False)
    expect(line(page, "removing files")).to_be_in_viewport()
    expect(line(page, "a test failed")).to_be_visible()
    expect(log_of(page).locator(".line.error .level")).to_have_text("error:")
    expect(log_of(page).locator(".line.error .place")).to_have_text("tests/a.py:3")
    expect(page.locator(".error-count")).to_have_text(re.compile("2 errors"))
    expect(log_of(page).locator(".line.section", has_text="Test")).to_contain_text("2 errors")
    expect(line(page, "before all sections")).to_be_visible()  # what is between was not loaded
    expect(line(page, "module 3000")).to_have_count(0)
    expect(page.locator(".section-count")).to_have_text(re.compile(r"^5 sections"))
    stamped = log_of(page).locator(".section > span", has_text="Clean up")
    expect(stamped).to_have_text("2026-11-30T08:00:00Z --- Clean up")  # the time is the job's own
    log_of(page).evaluate("it => getSelection().selectAllChildren(it)")
    text = page.evaluate("getSelection().toString()")
    assert "\n--- Checkout\n" in text and "::error file=tests/a.py,line=3::expected <b>3" in text
    page.evaluate("getSelection().empty()")
    check_with_axe(page)


def test_a_hidden_line_is_shown_by_everything_that_leads_to_it(
    build: str, page: Page, context: BrowserContext
) -> None:
    context.grant_permissions(["clipboard-read", "clipboard-write"])
    visit(page, build)
    expect_folded(page, "Compile", True)
    page.get_by_label("Find in log").fill("module 300")
    expect(line(page, "module 300")).to_be_in_viewport()
    expect_folded(page, "Compile", False)
    page.get_by_label("Find in log").press("Escape")
    page.get_by_role("button", name="Next error").click()
    expect(line(page, "a test failed")).to_be_in_viewport()
    for name in ("Test", "Coverage", "Clean up"):
        page.keyboard.press("]")
        expect(header(page, name)).to_be_focused()
    page.keyboard.press("[")
    expect(header(page, "Coverage")).to_be_focused()
    expect_folded(page, "Coverage", True)
    page.keyboard.press("Enter")
    expect(line(page, "covered 7")).to_be_visible()
    expect_folded(page, "Coverage", False)
    line(page, "covered 7").click(position={"x": 50, "y": 8})  # its number
    expect(page).to_have_url(re.compile("at="))
    link = page.url
    title = log_of(page).locator(".line.section", has_text="Coverage")
    title.hover()
    title.get_by_role("button", name="Copy a link to this section").click()
    expect(page.get_by_text("Link copied")).to_be_visible()
    assert "&at=" in page.evaluate("navigator.clipboard.readText()")
    page.reload()
    visit(page, link)
    expect(log_of(page).locator(".marked")).to_have_text("covered 7")
    expect(log_of(page).locator(".marked")).to_be_in_viewport()
    expect_folded(page, "Coverage", False)


def test_the_list_of_sections_leads_to_each_and_choices_are_kept(
    build: str, page_site: Site, page: Page
) -> None:
    visit(page, build)
    expect_folded(page, "Checkout", True)
    everything = page.locator(".fold-all")
    everything.click()
    expect(everything).to_have_text("Collapse all")
    expect(log_of(page).locator(".folded")).to_have_count(0)
    everything.click()
    expect(everything).to_have_text("Expand all")
    for name in ("Checkout", "Compile", "Test", "Coverage", "Clean up"):
        expect_folded(page, name, True)
    expect(line(page, "removing files")).to_be_hidden()
    page.set_viewport_size({"width": 390, "height": 800})
    page.locator(".section-count").click()
    entries = page.locator(".section-list button")
    expect(entries).to_have_text(
        [re.compile(f"^{name}") for name in ("Checkout", "Compile", "Test2 err", "Cov", "Clean up")]
    )
    box = page.locator(".section-menu").bounding_box()
    assert box and box["x"] >= 0 and box["x"] + box["width"] <= 390
    entries.nth(1).click()
    expect(entries.first).to_be_hidden()
    expect(header(page, "Compile")).to_be_in_viewport()
    expect(line(page, "module 0")).to_be_in_viewport()
    expect_folded(page, "Compile", False)
    page.set_viewport_size({"width": 1280, "height": 800})
    other = page_site.submit("echo other", "without sections")
    page_site.wait(other, "succeeded")
    row(page, "without sections").click()
    expect(log_of(page)).to_have_text("other")
    expect(page.locator(".section-count")).to_be_hidden()
    row(page, "sections of a build").click()
    expect_folded(page, "Test", True)
    expect(line(page, "module 5999")).to_be_visible()
    visit(page, f"{build}&compare={other.id}")
    expect(page.get_by_role("region", name="Comparison with another run")).to_be_visible()
    expect(page.locator(".error-count")).not_to_be_empty()  # the log is loaded, too
    expect(page.locator(".section-count")).not_to_be_empty()
    expect(page.locator(".section-count")).to_be_hidden()


def test_a_followed_section_folds_once_the_next_one_begins(
    page_site: Site, page: Page, tmp_path: Path
) -> None:
    gates = [tmp_path / f"gate{n}" for n in range(3)]
    first, second, third = map(waiting, gates)
    script = (
        f"echo --- First; seq -f 'first %g' 100; {first}\n"
        f"echo --- Second; seq -f 'second %g' 2500; {second}\n"
        f"echo --- Third; seq -f 'third %g' 3; {third}\n"
        "echo --- Fourth; echo the end"
    )
    job = page_site.submit(script, "sections of a live job")
    page_site.wait(job, "running")
    visit(page, f"{page_site.url}/?job={job.id}")
    expect(line(page, "first 100")).to_be_in_viewport()
    expect_folded(page, "First", False)
    page.locator(".section-count").click()
    entry = page.locator(".section-list button")
    entry.focus()
    shift_clock(page, 120_000)
    expect(entry).to_have_text(re.compile("2 min"))
    expect(entry).to_be_focused()
    page.keyboard.press("Escape")
    gates[0].touch()
    expect(line(page, "second 2500")).to_be_in_viewport()
    gates[1].touch()
    expect(line(page, "third 3")).to_be_in_viewport()
    expect_folded(page, "First", True)
    expect_folded(page, "Second", True)  # whose header the view had dropped
    expect(line(page, "first 100")).to_be_hidden()
    header(page, "First").click()
    log_of(page).evaluate("it => { it.scrollTop = 300 }")
    expect(line(page, "first 20")).to_be_in_viewport()
    gates[2].touch()
    page_site.wait(job, "succeeded")
    expect_folded(page, "Fourth", False)
    expect_folded(page, "First", False)
    assert log_of(page).evaluate("it => it.scrollTop") == 300


def test_only_the_first_thousand_sections_are_listed(page_site: Site, page: Page) -> None:
    job = page_site.python("for n in range(1300): print(f'--- Step {n}\\nwork')", "many sections")
    page_site.wait(job, "succeeded")
    visit(page, f"{page_site.url}/?job={job.id}")
    count = page.locator(".section-count")
    expect(count).to_have_text(re.compile("^1,300 sections"))
    count.click()
    entries = page.locator(".section-list button")
    expect(entries).to_have_count(1000)
    expect(page.locator(".section-list .more")).to_have_text("and 300 more")
    entries.first.press("ArrowDown")
    expect(entries.nth(1)).to_be_focused()
    page.keyboard.press("Escape")
    expect(log_of(page).locator(".line.section").last).to_be_in_viewport()
    wait_until(lambda: log_of(page).locator(".folded").count() > 100)
    page.keyboard.press("g")
    expect_folded(page, "Step 0", True)
    log_of(page).evaluate("it => { it.scrollTop = 1000 }")
    count.click()
    expect(page.locator(".section-list [aria-current]")).to_be_in_viewport()
    expect(page.locator(".section-list [aria-current]")).to_have_count(1)
