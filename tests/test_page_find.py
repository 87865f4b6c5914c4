"""Finding text in a log: the whole log is searched, however little of it is loaded."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from conftest import wait_until
from page_site import Site, check_with_axe, log_of, visit
from playwright.sync_api import Locator, Page, expect

LONG = (
    "for n in range(1, 100_001):\n"
    "    print(f'line {n}:' + (' Error: broken' if n % 40_000 == 7 else ''))\n"
    "raise SystemExit(1)"
)


@pytest.fixture(scope="module")
def long_log(page_site: Site) -> str:
    """The address of a failed job with 100,000 lines, of which 1,000 are loaded at first."""
    job = page_site.python(LONG, "find long")
    page_site.wait(job, "failed")
    return f"{page_site.url}/?job={job.id}"


def field(page: Page) -> Locator:
    return page.get_by_label("Find in log")


def found(page: Page) -> Locator:
    return page.locator(".found")


def matching_lines(page: Page) -> Locator:
    return page.get_by_role("region", name="Matching lines")


def open_log(page: Page, url: str, last_line: str) -> None:
    visit(page, url)
    expect(log_of(page)).to_contain_text(last_line)


def selected(page: Page) -> Locator:
    return log_of(page).locator(".found-line")


def test_find_reaches_every_part_of_a_long_log(long_log: str, page: Page) -> None:
    """Enter did nothing if the only match was above the loaded lines."""
    open_log(page, long_log, "line 100000:")
    tools = page.locator(".tools")
    height = tools.evaluate("it => it.clientHeight")
    field(page).fill("LINE 50000:")
    expect(found(page)).to_have_text("1 of 1")
    expect(selected(page)).to_have_text("line 50000:")
    expect(selected(page)).to_be_in_viewport()
    assert page.evaluate("CSS.highlights.get('found-now').size") == 1
    field(page).fill("error:")
    lines = [7, 40_007, 80_007]
    expect(found(page)).to_have_text("1 of 3")  # none is below the lines that were visible
    for place in (2, 3, 1):
        field(page).press("Enter")
        expect(found(page)).to_have_text(f"{place} of 3")
        expect(selected(page)).to_have_text(f"line {lines[place - 1]}: Error: broken")
        expect(selected(page)).to_be_in_viewport()
    for place in (3, 2):
        field(page).press("Shift+Enter")
        expect(found(page)).to_have_text(f"{place} of 3")
        expect(selected(page)).to_have_text(f"line {lines[place - 1]}: Error: broken")
    page.set_viewport_size({"width": 1024, "height": 800})
    assert tools.evaluate("it => it.clientHeight") == height  # with errors beside it, in one row
    page.set_viewport_size({"width": 1280, "height": 800})
    assert tools.evaluate("it => it.clientHeight") == height
    assert tools.evaluate("it => it.scrollWidth <= it.clientWidth")
    for width in (1280, 1024):  # "40,001 of 100,000" was cut after "of 1"
        page.set_viewport_size({"width": width, "height": 800})
        field(page).fill("line")
        expect(found(page)).to_contain_text(" of 100,000")
        assert found(page).evaluate("it => it.scrollWidth <= it.clientWidth")
        assert tools.evaluate("it => it.scrollWidth <= it.clientWidth && it.clientHeight") == height
    page.set_viewport_size({"width": 1280, "height": 800})
    field(page).fill("line 50000:x")
    expect(found(page)).to_have_text("No matches")
    field(page).press("Escape")
    expect(field(page)).to_have_value("")
    expect(found(page)).to_have_text("")


def test_enter_continues_at_the_first_match_of_the_whole_log(page_site: Site, page: Page) -> None:
    """Enter went around in the loaded lines, so it never came to match 31."""
    script = (
        "for n in range(3006): print(f'test_{1234 if n % 100 == 0 else n + 10_000} ok')"  # 31 times
    )
    job = page_site.python(script, "find wrap")
    page_site.wait(job, "succeeded")
    open_log(page, f"{page_site.url}/?job={job.id}", "test_13005 ok")
    field(page).fill("test_1234 ")
    expect(found(page)).to_have_text("31 of 31")
    expect(selected(page)).to_have_attribute("data-line", "3001")
    for _ in range(40):
        field(page).press("Enter")
    expect(found(page)).to_have_text("9 of 31")
    expect(selected(page)).to_have_attribute("data-line", "801")
    for _ in range(9):
        field(page).press("ArrowUp")
    expect(found(page)).to_have_text("31 of 31")
    expect(selected(page)).to_have_attribute("data-line", "3001")


def test_only_matching_lines_are_shown_with_their_gaps(long_log: str, page: Page) -> None:
    open_log(page, long_log, "line 100000:")
    top = log_of(page).evaluate("it => it.scrollTop")
    field(page).fill("nowhere")
    expect(found(page)).to_have_text("No matches")
    filtering = page.get_by_role("button", name="Filter lines")
    filtering.click()
    lines = matching_lines(page)
    expect(lines).to_have_text("No lines match")
    field(page).fill("error:")
    expect(lines.locator(".line")).to_have_text(
        [f"line {n}: Error: broken" for n in (7, 40_007, 80_007)]
    )
    expect(lines.locator(".line").first).to_have_attribute("data-line", "7")
    expect(lines.locator(".gap")).to_have_text(["⋯ 6 lines", "⋯ 39,999 lines", "⋯ 39,999 lines"])
    check_with_axe(page)
    lines.focus()
    page.keyboard.press("Escape")
    expect(lines).to_be_hidden()
    assert log_of(page).evaluate("it => it.scrollTop") == top
    filtering.click()
    lines.locator(".gap").nth(1).click()
    expect(lines).to_be_hidden()
    expect(log_of(page).locator("[data-line='8']")).to_be_in_viewport()
    field(page).fill("00:")
    expect(found(page)).to_have_text("1 of 1,000")
    filtering.click()
    expect(lines.locator(".line").first).to_have_attribute("data-line", "100")
    loaded = lines.locator(".line").count()
    lines.evaluate("it => { it.scrollTop = it.scrollHeight }")
    expect(lines.locator("[data-line='40000']")).to_have_count(1)
    assert lines.locator(".line").count() > loaded
    page.get_by_role("button", name="Next error").click()
    expect(lines).to_be_hidden()


def test_find_takes_regular_expressions_and_can_match_case(long_log: str, page: Page) -> None:
    open_log(page, long_log, "line 100000:")
    field(page).fill("LINE 50000:")
    expect(found(page)).to_have_text("1 of 1")
    page.get_by_role("button", name="Match case").click()
    expect(found(page)).to_have_text("No matches")
    page.get_by_role("button", name="Match case").click()
    page.get_by_role("button", name="Regular expression").click()
    field(page).fill("line 5(0+)?:( |$)")
    expect(found(page)).to_have_text(re.compile("of 5$"))
    wait_until(lambda: page.evaluate("CSS.highlights.get('found-now').size") == 1)
    field(page).fill("line 5(")
    expect(found(page)).to_have_text("Invalid pattern: missing )")
    expect(field(page)).to_have_attribute("aria-invalid", "true")
    field(page).fill("line 12(a+)+$|line 12345:")
    expect(found(page)).to_have_text("1 of 1")
    expect(field(page)).to_have_attribute("aria-invalid", "false")


def test_the_minimap_leads_to_matches(long_log: str, page: Page) -> None:
    open_log(page, long_log, "line 100000:")
    field(page).fill("error:")
    expect(found(page)).to_have_text("1 of 3")
    ticks = page.locator(".match-ticks u")
    expect(ticks).to_have_count(3)
    ticks.nth(1).click()
    expect(found(page)).to_have_text("2 of 3")
    expect(selected(page)).to_have_text("line 40007: Error: broken")
    page.emulate_media(forced_colors="active")
    backs = "it => [it, it.querySelector('u')].map((one) => getComputedStyle(one).backgroundColor)"
    assert len(set(page.locator(".match-ticks").evaluate(backs))) == 2
    page.emulate_media(forced_colors="none")


def test_new_lines_join_the_matches(page_site: Site, page: Page, gate_file: Path) -> None:
    script = (
        "import os, time, itertools\n"
        "print('needle 0', flush=True)\n"
        f"while not os.path.exists({str(gate_file)!r}): time.sleep(0.05)\n"
        "print('hay')\nprint('needle 1', flush=True)\ntime.sleep(600)"
    )
    job = page_site.python(script, "find live")
    page_site.wait(job, "running")
    open_log(page, f"{page_site.url}/?job={job.id}", "needle 0")
    field(page).fill("needle")
    expect(found(page)).to_have_text("1 of 1")
    page.get_by_role("button", name="Filter lines").click()
    lines = matching_lines(page).locator(".line")
    expect(lines).to_have_text(["needle 0"])
    gate_file.touch()
    expect(found(page)).to_have_text("1 of 2")
    expect(lines).to_have_text(["needle 0", "needle 1"])
    expect(matching_lines(page).locator(".gap")).to_have_text(["⋯ 1 line"])
    page_site.storage.cancel(job.id, "not needed")
