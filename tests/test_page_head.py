"""The head of a job in the page: its actions, its reason, and the run form."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import requests
from page_site import Serve, Site, choose_interval, log_of, row, state, visit, waiting
from playwright.sync_api import Locator, Page, expect

STUBBORN = "trap '' TERM; echo ready; while [ ! -e {gate} ]; do sleep 0.05; done"


def button(page: Page, name: str) -> Locator:
    return page.get_by_role("button", name=name, exact=True)


def question(page: Page) -> Locator:
    return page.get_by_role("group", name="Confirm")


def why(page: Page) -> Locator:
    return page.locator(".why")


def test_a_script_typed_into_the_form_runs_by_its_interpreter(page_site: Site, page: Page) -> None:
    visit(page, page_site.url)
    button(page, "+ Run").click()
    command = page.get_by_label("Command", exact=True)
    expect(command).to_have_accessible_description(re.compile("/bin/sh .* #! chooses another"))
    command.fill("#!/usr/bin/env python3\nimport sys\nprint('typed', *sys.argv[1:])\n")
    button(page, "Run job").click()
    expect(log_of(page)).to_contain_text("typed")
    expect(row(page, "print('typed', *sys.argv[1:])")).to_be_visible()


def test_a_refresh_does_not_replace_a_click_that_waits(page_site: Site, page: Page) -> None:
    visit(page, page_site.url)
    button(page, "+ Run").click()
    page.get_by_label("Command", exact=True).fill("echo clicked in time")
    refresh = page.locator("button.refresh")  # in the closed menu
    with page_site.silent_api():
        refresh.dispatch_event("click")  # the page's server now waits for the API
        button(page, "Run job").click()
        refresh.dispatch_event("click")
    expect(log_of(page)).to_contain_text("clicked in time")


def test_a_second_click_does_not_replace_the_first(page_site: Site, page: Page) -> None:
    jobs = [page_site.submit("sleep 60", f"clicked {nth}") for nth in ("first", "second")]
    for job in jobs:
        page_site.wait(job, "running")
    visit(page, page_site.url)
    for job in jobs:
        expect(button(page, f"Cancel {job.name}")).to_be_visible()
    with page_site.silent_api():
        page.locator("button.refresh").dispatch_event("click")
        for job in jobs:
            button(page, f"Cancel {job.name}").click()
            button(page, f"Cancel job {job.name}").click()
    for job in jobs:
        page_site.wait(job, "cancelled")


def test_nothing_is_sent_or_promised_while_the_api_is_down(
    serve: Serve, page: Page, gate_file: Path
) -> None:
    with serve(slots=2) as site:
        job = site.submit(f"echo ready; {waiting(gate_file)}", "left alone")
        visit(page, f"{site.url}/?job={job.id}")
        expect(log_of(page)).to_contain_text("ready")
        choose_interval(page, "1 s")
        button(page, "+ Run").click()
        page.get_by_label("Command", exact=True).fill("echo kept text")
        site.kill_api()
        button(page, "Run job").click(force=True)  # after a refresh, Playwright finds it disabled
        form = page.get_by_role("dialog", name="Run a job")
        # The second sentence: the connection was open when the API was killed.
        not_sent = re.compile("^Not sent: the API isn't answering|may have received this")
        expect(form.get_by_text(not_sent)).to_be_visible()
        expect(page.get_by_text("Can't reach the API")).to_be_attached()
        expect(button(page, "Run job")).to_have_attribute("aria-disabled", "true")
        expect(page.get_by_label("Command", exact=True)).to_have_value("echo kept text")
        page.keyboard.press("Escape")
        for name in ("Cancel", "Run again", "Edit and run…"):
            expect(button(page, name)).to_have_attribute("aria-disabled", "true")
            expect(button(page, name)).to_have_attribute("title", re.compile("^Not sent"))
        button(page, "Cancel").click(force=True)  # which Playwright regards as disabled
        expect(page.locator(".toast")).to_have_text(re.compile("^Not sent"))
        expect(question(page)).to_be_hidden()
        site.restart_api()
        expect(button(page, "Cancel")).not_to_have_attribute("aria-disabled", "true")
        gate_file.touch()
        expect(state(page)).to_have_text("succeeded, exit 0")
        assert not site.storage.list(text="kept text")[0]


def test_the_reason_is_shown_before_the_last_line(page_site: Site, page: Page) -> None:
    slow = page_site.submit("echo tick 8; sleep 60", "too slow", timeout=0.3)
    harmless = page_site.submit("echo row 10; exit 3", "harmless output")
    page_site.wait(slow, "timed_out")
    page_site.wait(harmless, "failed")
    visit(page, f"{page_site.url}/?job={slow.id}")
    expect(why(page)).to_have_text("Timed out: ran longer than its time limit of 0.3 s")
    expect(page.locator(".why code")).to_be_hidden()
    expect(row(page, "too slow")).to_contain_text("ran longer than its time limit")
    expect(row(page, "too slow")).not_to_contain_text("tick 8")
    row(page, "harmless output").click()
    expect(why(page)).to_contain_text("Failed: exit 3")
    expect(button(page, "Last line: row 10")).to_be_visible()
    expect(row(page, "harmless output")).to_contain_text("Last line: row 10")
    expect(page).to_have_title("✕ harmless output · Tailboard")


def test_a_slow_cancel_and_a_retry_are_shown_at_once(
    page_site: Site, page: Page, gate_file: Path
) -> None:
    stubborn = page_site.submit(STUBBORN.format(gate=gate_file), "stubborn")
    visit(page, f"{page_site.url}/?job={stubborn.id}")
    choose_interval(page, "off")  # only the stream brings news
    expect(log_of(page)).to_contain_text("ready")
    expect(page).to_have_title("▶ stubborn · Tailboard")
    button(page, "Cancel").click()
    assert near(button(page, "Cancel"), question(page))
    expect(button(page, "Keep running")).to_be_visible()
    button(page, "Cancel job").click()
    expect(state(page)).to_have_text(re.compile(r"cancelling, SIGKILL in \d+ s"))
    expect(button(page, "Cancel")).to_have_attribute("aria-disabled", "true")
    page.reload()
    expect(state(page)).to_have_text("cancelling, SIGKILL within 10 s")
    gate_file.touch()
    expect(page.get_by_text("cancelled from the page")).to_be_visible()
    expect(page.locator(".toast")).to_have_count(0)


def test_the_end_of_an_attempt_is_shown_at_once(
    page_site: Site, page: Page, gate_file: Path
) -> None:
    command = f"echo ready; {waiting(gate_file)}; exit 7"
    job = page_site.submit(command, "tries again", retries=1, retry_delay=3_000)
    visit(page, f"{page_site.url}/?job={job.id}")
    choose_interval(page, "off")
    expect(state(page)).to_have_text("live")
    gate_file.touch()
    expect(why(page)).to_have_text(re.compile(r"attempt 1 failed \(exit 7\), again in 4\d min"))
    expect(state(page)).to_have_text(re.compile("queued, again in"))
    page.reload()
    expect(why(page)).to_have_text(re.compile(r"attempt 1 failed \(exit 7\), again in 4\d min"))
    page_site.storage.cancel(job.id, "enough")


@pytest.mark.parametrize("size", [(1280, 800), (390, 664), (640, 400)], ids=str)
def test_the_command_field_keeps_six_lines(
    page_site: Site, page: Page, size: tuple[int, int]
) -> None:
    page.set_viewport_size({"width": size[0], "height": size[1]})
    saved = {"command": "true"}  # the list of saved commands limits the height of the form
    requests.put(f"{page_site.api}/saved/beside-the-form", json=saved).raise_for_status()
    job = page_site.submit("echo 1\necho 2\necho 3", "to copy", env={"A": "1"}, retries=1)
    page_site.wait(job, "succeeded")
    visit(page, f"{page_site.url}/?job={job.id}")
    button(page, "Edit and run…").click()
    form = page.get_by_role("dialog", name="Run a copy of to copy")
    command = form.get_by_label("Command", exact=True)
    expect(command).to_have_value(re.compile("echo 3"))
    least = "node => node.clientHeight >= 6 * parseFloat(getComputedStyle(node).lineHeight)"
    assert command.evaluate(least)
    short = command.bounding_box()
    command.fill("\n".join(f"echo {n}" for n in range(12)))
    long = command.bounding_box()
    assert short and long and long["height"] > short["height"]
    form.get_by_label("Environment").fill("TOKEN=hush\nMODE=full")
    draft = page.evaluate("sessionStorage.getItem('tailboard.draft')")
    assert "hush" not in draft and "MODE=full" in draft
    command.fill(" ")
    command.press("Control+Enter")
    expect(form.get_by_text("Enter a command.")).to_be_visible()
    command.fill("true")
    expect(form.get_by_text("Enter a command.")).to_be_hidden()


def test_a_missing_job_shows_one_message(page_site: Site, page: Page) -> None:
    visit(page, f"{page_site.url}/?job=20200101-000000-00000000")
    expect(page.get_by_text("Job not found. It may have been deleted")).to_be_visible()
    for name in ("Cancel", "Run again", "Edit and run…", "Details"):
        expect(button(page, name)).to_be_hidden()
    expect(page.locator(".command-bar")).to_be_hidden()
    expect(page.get_by_label("Find in log")).to_be_hidden()
    expect(page).to_have_title(re.compile("Tailboard$"))


def test_a_job_in_a_paused_queue_offers_to_resume_it(page_site: Site, page: Page) -> None:
    page_site.storage.pauses.pause("frozen", "freeze", None)
    job = page_site.submit("echo thawed", "iced", queue="frozen")
    visit(page, f"{page_site.url}/?job={job.id}")
    button(page, "Resume queue").click()
    question(page).get_by_role("button", name="Resume queue").click()
    expect(log_of(page)).to_have_text("thawed")
    expect(button(page, "Resume queue")).to_be_hidden()


def near(one: Locator, other: Locator) -> bool:
    """Are the two beside each other?"""
    first, second = one.bounding_box(), other.bounding_box()
    assert first and second
    return 0 <= second["x"] - first["x"] - first["width"] < 24
