"""The keys of the page, its themes and what it shows while it loads."""

from __future__ import annotations

import re
from pathlib import Path

from page_site import Site, check_with_axe, counting, log_of, row, state, submitted, visit, waiting
from playwright.sync_api import Page, expect

LINK = "Link copied"


def open_menu(page: Page) -> None:
    page.get_by_role("button", name="More", exact=True).click()


def test_each_action_on_a_job_has_a_key(page_site: Site, page: Page, gate_file: Path) -> None:
    job = page_site.python(counting(gate_file), "keyed job")
    visit(page, f"{page_site.url}/?job={job.id}")
    expect(log_of(page)).to_contain_text("line 1")
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.keyboard.press("l")
    expect(page.get_by_text(LINK)).to_be_visible()
    assert page.evaluate("navigator.clipboard.readText()") == f"{page_site.url}/?job={job.id}"
    wrap = page.get_by_label("Wrap")
    expect(wrap).to_be_checked()
    page.keyboard.press("w")
    expect(wrap).not_to_be_checked()
    page.keyboard.press("w")
    page.keyboard.press("d")
    expect(page.get_by_role("region", name="Details")).to_be_visible()
    page.keyboard.press("x")
    question = page.get_by_role("group", name="Confirm")
    expect(question).to_be_visible()
    page.keyboard.press("Escape")  # closes one thing after the other
    expect(question).to_be_hidden()
    expect(page.get_by_role("region", name="Details")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.get_by_role("region", name="Details")).to_be_hidden()
    page.keyboard.press("x")
    page.keyboard.press("Enter")
    page_site.wait(job, "cancelled")
    expect(state(page)).to_contain_text("cancelled")
    page.keyboard.press("r")
    page.keyboard.press("Enter")
    expect(page).not_to_have_url(re.compile(job.id))
    again = submitted(page)
    assert again != job.id
    page.keyboard.press("Escape")
    expect(log_of(page)).to_be_hidden()
    expect(page).not_to_have_url(re.compile("job="))


def test_keys_find_text_in_the_open_log(page_site: Site, page: Page) -> None:
    job = page_site.submit("echo one; echo two; echo three", "searched by key")
    page_site.wait(job, "succeeded")
    visit(page, f"{page_site.url}/?job={job.id}")
    expect(log_of(page)).to_contain_text("three")
    field = page.get_by_label("Find in log")
    page.evaluate(
        "addEventListener('keydown', (event) => { window.left = !event.defaultPrevented })"
    )
    page.keyboard.press("Control+f")
    expect(field).to_be_focused()
    page.keyboard.type("two")
    page.keyboard.press("Control+f")  # the browser's own find
    assert page.evaluate("window.left")
    page.keyboard.press("Escape")
    expect(field).to_have_value("")
    expect(log_of(page)).to_be_visible()
    page.keyboard.press("s")
    expect(field).to_be_focused()
    page.keyboard.press("Escape")  # leaves the empty field
    page.keyboard.press("Escape")
    expect(log_of(page)).to_be_hidden()
    page.keyboard.press("Control+f")
    assert page.evaluate("window.left")


def test_j_and_k_change_the_open_log(page_site: Site, page: Page) -> None:
    jobs = [page_site.submit(f"echo this is peek {n}", f"peek {n}") for n in range(3)]
    for job in jobs:
        page_site.wait(job, "succeeded")
    visit(page, f"{page_site.url}/?q=peek&job={jobs[0].id}")
    expect(row(page, "peek 2")).to_be_visible()
    expect(log_of(page)).to_contain_text("this is peek 0")
    steps = page.evaluate("history.length")
    page.keyboard.press("k")
    expect(row(page, "peek 1")).to_be_focused()
    page.keyboard.press("k")
    expect(log_of(page)).to_contain_text("this is peek 2")
    page.keyboard.press("z")  # with the list hidden, too
    page.keyboard.press("j")
    expect(log_of(page)).to_contain_text("this is peek 1")
    page.keyboard.press("z")
    assert page.evaluate("history.length") == steps  # so Back leaves the log


def test_digits_choose_a_status_unless_single_keys_are_off(
    page_site: Site, page: Page, gate_file: Path
) -> None:
    page_site.submit(waiting(gate_file), "digit job")
    visit(page, f"{page_site.url}/?q=digit")
    page.keyboard.press("1")
    expect(page).to_have_url(re.compile("status=running"))
    expect(row(page, "digit job")).to_be_visible()
    page.keyboard.press("2")
    expect(page).to_have_url(re.compile("status=failed"))
    page.keyboard.press("0")
    expect(page).not_to_have_url(re.compile("status="))
    open_menu(page)
    page.get_by_role("switch", name="Single-key shortcuts").uncheck()
    page.get_by_role("button", name="Keyboard shortcuts").click()
    sheet = page.get_by_role("dialog", name="Keyboard shortcuts")
    expect(sheet.get_by_text("Single-key shortcuts are off")).to_be_visible()
    for group in ("Page", "List", "Job", "Log"):
        expect(sheet.get_by_role("heading", name=group, exact=True)).to_be_visible()
    check_with_axe(page)
    page.keyboard.press("Escape")
    page.keyboard.press("c")
    page.keyboard.press("1")
    page.keyboard.press("Escape")  # has been handled after both
    expect(page.get_by_role("dialog")).to_be_hidden()
    expect(page).not_to_have_url(re.compile("status="))


def test_a_theme_is_kept_and_reaches_other_tabs(page_site: Site, page: Page) -> None:
    page.emulate_media(color_scheme="light")
    visit(page, page_site.url)
    back = "getComputedStyle(document.querySelector('.stApp')).backgroundColor"
    assert page.evaluate(back) == "rgb(255, 255, 255)"
    open_menu(page)
    page.get_by_role("radio", name="Dark").check()
    assert page.evaluate(back) == "rgb(16, 21, 29)"
    page.keyboard.press("Escape")
    check_with_axe(page)
    other = page.context.new_page()
    visit(other, page_site.url)
    assert other.evaluate(back) == "rgb(16, 21, 29)"
    open_menu(other)
    other.get_by_role("radio", name="System").check()
    page.wait_for_function(f"{back} === 'rgb(255, 255, 255)'")


def test_forced_colours_show_what_is_chosen_and_which_line_is_an_error(
    page_site: Site, page: Page
) -> None:
    jobs = [
        page_site.submit("echo fine; echo ValueError: bad; exit 1", f"forced {n}") for n in "12"
    ]
    for job in jobs:
        page_site.wait(job, "failed")
    page.emulate_media(forced_colors="active")
    visit(page, f"{page_site.url}/?q=forced&job={jobs[0].id}")
    expect(log_of(page)).to_contain_text("ValueError")
    back = "(node) => getComputedStyle(node).backgroundColor"
    assert row(page, "forced 1").evaluate(back) != row(page, "forced 2").evaluate(back)
    chosen, other = page.get_by_role("link", name="all"), page.get_by_role("link", name="failed")
    assert chosen.first.evaluate(back) != other.first.evaluate(back)
    flag = "(node) => getComputedStyle(node, '::after').borderLeftWidth"
    lines = log_of(page).locator(".line")
    assert lines.nth(0).evaluate(flag) != lines.nth(1).evaluate(flag)
