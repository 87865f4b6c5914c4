"""The page in real Chromium, before a real API and a real worker. Nothing here sleeps: Playwright's
`expect` looks again and again until it is so, or fails."""

from __future__ import annotations

import os
import re
import shutil
import statistics
import subprocess
import time
from datetime import datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
import requests
from conftest import ROOT, wait_until
from page_site import (
    Serve,
    Site,
    check_with_axe,
    choose_interval,
    counting,
    log_of,
    row,
    shift_clock,
    state,
    submitted,
    visit,
    waiting,
)
from playwright.sync_api import (
    Locator,
    Page,
    Route,
    expect,
)

from storage import load_logs
from tailboard.job import Job
from tailboard.page import client, forms
from tailboard.page import rows as rows_module
from tailboard.saved_command import Param, SavedCommand


@pytest.fixture
def site(page_site: Site) -> Site:
    return page_site


@pytest.fixture
def gate(gate_file: Path) -> Path:
    return gate_file


# --- From the form to the end ---------------------------------------------------------------------


def test_a_job_from_the_form_shows_its_log_live_until_it_ends(
    site: Site, page: Page, gate: Path
) -> None:
    visit(page, site.url)
    script = f"echo first\n{waiting(gate)}\necho second"
    page.get_by_role("button", name="+ Run").click()
    page.get_by_label("Command", exact=True).fill(script)
    page.get_by_role("textbox", name="Name", exact=True).fill("from the form")
    page.get_by_label("Working folder").fill("/tmp")
    page.get_by_label("Time limit").fill("60")
    page.get_by_text("More", exact=True).click()
    page.get_by_label("Environment").fill("COLOUR=red\nEMPTY=")
    page.get_by_label("Retries").fill("2")
    page.get_by_role("button", name="Run job").click()
    expect(log_of(page)).to_contain_text("first")
    expect(row(page, "from the form")).to_contain_text("running")
    job = site.storage.get(submitted(page))
    assert (job.name, job.command, job.cwd, job.timeout) == ("from the form", script, "/tmp", 60)
    assert (job.env, job.retries, job.queue) == ({"COLOUR": "red", "EMPTY": ""}, 2, "default")
    gate.touch()
    expect(log_of(page)).to_contain_text("second")
    expect(row(page, "from the form")).to_contain_text("succeeded")
    expect(state(page)).to_have_text("succeeded, exit 0")
    page.keyboard.press("c")
    expect(page.get_by_label("Command", exact=True)).to_have_value("")


def test_a_second_click_after_a_lost_response_makes_no_second_job(
    site: Site, lossy_page: str, page: Page
) -> None:
    visit(page, lossy_page)
    page.get_by_role("button", name="+ Run").click()
    page.get_by_label("Command", exact=True).fill("echo once only")
    page.get_by_role("button", name="Run job").click()
    expect(page.get_by_text("nothing is done twice").first).to_be_visible()
    page.get_by_role("button", name="Run job").click()
    expect(page).to_have_url(re.compile(r"job=20"))
    jobs, _ = site.storage.list(text="echo once only")
    assert [job.id for job in jobs] == [submitted(page)]
    save(site, "once", params=[])
    visit(page, f"{lossy_page}/?saved=once")
    page.get_by_role("button", name="Run", exact=True).click()
    expect(page.locator(".saved-chosen").get_by_text("nothing is done twice")).to_be_visible()
    page.get_by_role("button", name="Run", exact=True).click()
    expect(page).to_have_url(re.compile(r"job=20"))
    assert [job.id for job in jobs_of(site, "once")] == [submitted(page)]


def test_an_error_is_shown_at_its_field_and_no_text_is_lost(site: Site, page: Page) -> None:
    visit(page, site.url)
    page.keyboard.press("c")
    command = page.get_by_label("Command", exact=True)
    page.get_by_role("textbox", name="Name", exact=True).fill("kept")
    command.press("Control+Enter")
    expect(page.get_by_text("Enter a command")).to_be_visible()
    command.fill("true")
    page.get_by_label("Working folder").fill("not/absolute")
    page.get_by_role("button", name="Run job").click()
    expect(page.get_by_text("Use an absolute path, such as /srv/app.")).to_be_visible()
    expect(page.get_by_label("Working folder")).to_be_focused()
    page.get_by_text("More", exact=True).click()
    page.get_by_label("Environment").fill("no equals sign")
    page.get_by_role("button", name="Run job").click()
    expect(page.get_by_text("Each line must be NAME=value")).to_be_visible()
    page.keyboard.press("Escape")
    expect(command).to_be_hidden()
    visit(page, site.url)
    page.keyboard.press("c")
    expect(page.get_by_role("textbox", name="Name", exact=True)).to_have_value("kept")


def test_run_again_asks_in_place_and_an_unchanged_form_is_a_rerun_too(
    site: Site, page: Page
) -> None:
    job = site.submit(["echo", "a b"], "to repeat", env={"A": "1"}, timeout=9.5)
    site.wait(job, "succeeded")
    visit(page, f"{site.url}/?job={job.id}")
    page.get_by_role("button", name="Run again").click()
    expect(page.get_by_text("Run “to repeat” again?")).to_be_visible()
    page.get_by_role("group", name="Confirm").get_by_role("button", name="Run again").click()
    expect(page).not_to_have_url(re.compile(job.id))
    again = site.storage.get(submitted(page))
    assert (again.rerun_of, again.command, again.env) == (job.id, ["echo", "a b"], {"A": "1"})
    expect(state(page)).to_have_text("succeeded, exit 0")
    page.get_by_role("button", name="Edit and run…").click()
    expect(page.get_by_label("Command", exact=True)).to_have_value("echo 'a b'")
    expect(page.get_by_label("Time limit")).to_have_value("9.5")
    expect(page.get_by_label("Environment")).to_have_value("A=•••")
    page.get_by_role("button", name="Run job").click()
    expect(page).not_to_have_url(re.compile(again.id))
    third = site.storage.get(submitted(page))
    assert (third.rerun_of, third.command, third.env) == (again.id, ["echo", "a b"], {"A": "1"})


def test_cancel_and_delete_ask_for_confirmation_once(site: Site, page: Page, gate: Path) -> None:
    job = site.submit(waiting(gate), "to stop")
    visit(page, f"{site.url}/?job={job.id}")
    page.get_by_role("button", name="Cancel").click()
    expect(page.get_by_text("SIGTERM, then SIGKILL after 10 s")).to_be_visible()
    page.get_by_role("button", name="Cancel job").click()
    expect(page.get_by_text("cancelled from the page")).to_be_visible()
    expect(state(page)).to_have_text("cancelled")
    expect(page.locator(".toast")).to_have_count(0)  # it is the job shown
    page.get_by_role("button", name="More actions").click()
    page.get_by_role("button", name="Delete").click()
    page.get_by_role("group", name="Confirm").get_by_role("button", name="Delete").click()
    expect(row(page, "to stop")).to_have_count(0)
    expect(page).not_to_have_url(re.compile("job="))


def test_a_toast_reports_the_end_of_a_job_no_longer_shown(
    site: Site, page: Page, gate: Path
) -> None:
    job = site.submit(waiting(gate), "left *behind*")
    other = site.submit("echo other", "other one")
    visit(page, f"{site.url}/?job={job.id}")
    expect(state(page)).to_have_text("live")
    choose_interval(page, "1 s")
    row(page, "other one").click()
    expect(log_of(page)).to_have_text("other")
    assert other.id in page.url
    gate.touch()
    expect(page.locator(".toast")).to_have_text("left *behind*: succeeded")


# --- Saved commands -------------------------------------------------------------------------------


def save(site: Site, name: str, **fields: Any) -> SavedCommand:
    """Saves a command that reads $TARGET and $MODE."""
    mode = Param(name="MODE", default="full", choices=["full", "part"])
    params = [Param(name="TARGET", label="What to back up"), mode]
    command = 'echo "$TARGET, $MODE"'
    saved = SavedCommand(**{"saved": name, "command": command, "params": params} | fields)
    site.storage.saved.save(saved)
    return saved


def jobs_of(site: Site, name: str) -> list[Job]:
    return [site.storage.get(job_id) for job_id in site.storage.saved.runs(name)]


def saved_row(page: Page, name: str) -> Locator:
    return page.get_by_role("list", name="Saved commands").get_by_role("button", name=name)


def test_a_jobs_command_is_saved_with_a_param_and_a_schedule_and_run(
    site: Site, page: Page
) -> None:
    job = site.submit('echo "to $TARGET"', "Back up", env={"TARGET": "/home", "KEY": "k"})
    site.wait(job, "succeeded")
    visit(page, f"{site.url}/?job={job.id}")
    page.get_by_role("button", name="More actions").click()
    page.get_by_role("button", name="Save command").click()
    expect(page.get_by_label("Save as")).to_have_value("back-up")
    page.get_by_role("checkbox", name="TARGET", exact=True).check()
    default = page.get_by_label("Default of TARGET")
    expect(default).to_have_attribute("placeholder", "same as this job")
    schedule = page.get_by_role("textbox", name="Schedule")
    schedule.fill("0 25 * * *")
    page.get_by_label("Time zone").fill("Asia/Tokyo")
    page.get_by_role("button", name="Save", exact=True).click()
    expect(page.get_by_text("Its hour '25' cannot be read")).to_be_visible()
    expect(schedule).to_be_focused()
    schedule.fill("0 3 1 1 *")
    page.get_by_role("button", name="Save", exact=True).click()
    expect(page.get_by_role("heading", name="back-up")).to_be_visible()
    kept = site.storage.saved.load("back-up")
    assert (kept.params, kept.env) == ([Param(name="TARGET", default="/home")], {"KEY": "k"})
    assert (kept.cron, kept.zone) == ("0 3 1 1 *", "Asia/Tokyo")
    page.get_by_role("textbox", name="TARGET", exact=True).fill("/srv; exit 1")
    page.get_by_role("button", name="Run", exact=True).click()
    expect(log_of(page)).to_have_text("to /srv; exit 1")
    expect(page.locator(".run-form")).to_be_hidden()
    page.get_by_role("button", name="Details").click()
    page.get_by_role("link", name="back-up").last.click()
    expect(page.get_by_role("textbox", name="TARGET", exact=True)).to_have_value("/home")
    page.keyboard.press("Escape")
    page.get_by_role("button", name="More actions").click()
    page.get_by_role("button", name="Save command").click()
    expect(page.get_by_text("Replaces the saved command back-up.")).to_be_visible()


def test_a_link_fills_the_fields_on_a_phone_and_runs_nothing(site: Site, page: Page) -> None:
    page.set_viewport_size({"width": 390, "height": 844})
    save(site, "by-link")
    visit(page, f"{site.url}/?saved=by-link&TARGET=%2Fsrv%20%E6%97%A5&MODE=part")
    expect(page.get_by_label("What to back up")).to_have_value("/srv 日")
    expect(page.get_by_label("MODE")).to_have_value("part")
    assert page.evaluate("document.scrollingElement.scrollWidth") <= 390
    page.get_by_label("What to back up").fill("")
    page.get_by_role("button", name="Run", exact=True).click()
    expect(page.get_by_text("TARGET is required")).to_be_visible()
    expect(page.get_by_label("What to back up")).to_be_focused()
    assert jobs_of(site, "by-link") == []
    page.keyboard.type("/var")
    page.keyboard.press("Control+Enter")
    expect(log_of(page)).to_have_text("/var, part")
    visit(page, f"{site.url}/?saved=by-link&target=x")
    expect(page.get_by_text("This link sets target, but by-link takes only")).to_be_visible()
    page.get_by_role("button", name="Cancel").last.click()
    expect(page).not_to_have_url(re.compile("saved="))
    visit(page, f"{site.url}/?saved=nobody")
    expect(page.get_by_text("There is no saved command “nobody”.")).to_be_visible()


def test_a_saved_command_can_be_paused_edited_and_deleted(site: Site, page: Page) -> None:
    params = [Param(name="TARGET", default="/home")]
    save(site, "to-change", params=params, env={"KEY": "k"}, cron="0 3 1 1 *", timeout=5)
    visit(page, f"{site.url}/?saved=to-change")
    page.get_by_label("TARGET").fill("typed")
    page.locator(".saved-pause").click()
    expect(page.locator(".saved-times")).to_contain_text("scheduled runs are skipped")
    expect(saved_row(page, "to-change")).to_contain_text("paused")
    expect(page.get_by_label("TARGET")).to_have_value("typed")
    page.locator(".saved-pause").click()
    expect(page.locator(".saved-pause")).to_have_text("Pause schedule")
    page.locator(".saved-edit").click()
    page.get_by_label("Default of TARGET").fill("/srv")
    page.get_by_role("textbox", name="Schedule").fill("@daily")
    page.get_by_role("button", name="Save", exact=True).click()
    expect(page.locator(".saved-times")).to_contain_text("@daily")
    expect(page.get_by_label("TARGET", exact=True)).to_have_value("typed")
    kept = site.storage.saved.load("to-change")
    assert kept.params == [Param(name="TARGET", default="/srv")]
    assert (kept.cron, kept.paused, kept.env, kept.timeout) == ("@daily", False, {"KEY": "k"}, 5)
    page.locator(".saved-delete").click()
    expect(page.get_by_text("Its schedule stops; past jobs are kept.")).to_be_visible()
    page.locator(".saved-confirm").get_by_role("button", name="Delete").click()
    expect(saved_row(page, "to-change")).to_have_count(0)
    expect(page.get_by_label("Command", exact=True)).to_be_visible()


def test_saved_commands_can_be_filtered_and_run_by_keyboard(site: Site, page: Page) -> None:
    for n in range(20):
        save(site, f"many-{n:02}", command=f"echo 日報 {n}", params=[])
    visit(page, site.url)
    page.keyboard.press("c")
    expect(saved_row(page, "many-19")).to_be_attached()
    expect(page.get_by_label("Command", exact=True)).to_be_focused()
    page.keyboard.press("Shift+Tab")  # the list is one stop, at its first row
    page.keyboard.press("Shift+Tab")
    expect(page.get_by_label("Filter saved commands")).to_be_focused()
    page.keyboard.type("日報 1")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("End")
    expect(saved_row(page, "many-19")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.get_by_role("button", name="Run", exact=True)).to_be_focused()
    page.keyboard.press("Enter")
    expect(log_of(page)).to_have_text("日報 19")


def test_axe_finds_nothing_serious_in_saved_commands(site: Site, page: Page) -> None:
    save(site, "for-axe", cron="@daily", params=[Param(name="TARGET", default="/")], paused=True)
    visit(page, f"{site.url}/?saved=for-axe&OTHER=1")
    page.locator(".saved-delete").click()
    check_with_axe(page)
    page.locator(".saved-edit").click()
    page.get_by_role("textbox", name="Schedule").fill("never")
    page.get_by_text("More options").click()
    page.get_by_role("button", name="Save", exact=True).click()
    expect(page.get_by_text("has 1 field; cron needs 5")).to_be_visible()
    check_with_axe(page)
    page.keyboard.press("Escape")
    page.set_viewport_size({"width": 390, "height": 844})
    page.locator(".saved-chosen .to-saved").click()
    expect(saved_row(page, "for-axe")).to_be_visible()
    check_with_axe(page)


# --- Refreshing -----------------------------------------------------------------------------------


def test_the_log_stops_refreshing_at_its_end_but_the_list_does_not(
    site: Site, page: Page, gate: Path
) -> None:
    job = site.python(counting(gate))
    visit(page, f"{site.url}/?job={job.id}")
    expect(log_of(page)).to_contain_text("line 3")
    choose_interval(page, "1 s")
    details = rf"/jobs/{job.id}"
    before = site.asked(details)
    wait_until(lambda: site.asked(details) > before + 2)
    gate.touch()
    expect(state(page)).to_have_text("succeeded, exit 0")
    colleague = site.submit("true", "from a colleague")
    expect(row(page, "from a colleague")).to_be_visible()
    assert colleague.id not in page.url

    def is_quiet() -> bool:
        """Lets pending messages arrive, then allows time for two more."""
        asked, before = site.asked(details), site.listed()
        wait_until(lambda: site.listed() > before + 2)
        return site.asked(details) == asked

    wait_until(is_quiet)


def test_typing_scrolling_and_selection_survive_refreshes(
    site: Site, page: Page, gate: Path
) -> None:
    job = site.python("for n in range(300): print('text', n)\n" + counting(gate))
    visit(page, f"{site.url}/?job={job.id}")
    expect(log_of(page)).to_contain_text("line 1")
    choose_interval(page, "1 s")
    page.get_by_role("button", name="Details").click()
    log_of(page).evaluate(
        "log => { log.scrollTop = 1000; getSelection().selectAllChildren(log.children[60]) }"
    )
    before = site.listed()
    wait_until(lambda: site.listed() > before + 1)
    selected = "log => log.getRootNode().getSelection().toString()"
    assert log_of(page).evaluate(selected).strip() == "text 60"
    page.keyboard.press("c")
    command = page.get_by_label("Command", exact=True)
    command.press_sequentially("python tra")
    before = site.listed()
    wait_until(lambda: site.listed() > before + 2)
    expect(command).to_be_focused()
    command.press_sequentially("in.py")
    expect(command).to_have_value("python train.py")
    page.keyboard.press("Escape")
    expect(page.get_by_role("rowheader", name="Submitted")).to_be_visible()
    assert log_of(page).evaluate("log => log.scrollTop") == 1000


def test_the_interval_can_be_chosen_and_off_means_off(site: Site, page: Page, gate: Path) -> None:
    job = site.submit(waiting(gate), "off")
    visit(page, f"{site.url}/?job={job.id}")
    choose_interval(page, "1 s")
    before = site.listed()
    wait_until(lambda: site.listed() > before + 2)
    choose_interval(page, "off")

    def is_quiet() -> bool:
        """Lets pending messages arrive, then allows time for two more."""
        seen, began = site.listed(), time.monotonic()
        wait_until(lambda: time.monotonic() > began + 2.5)
        return site.listed() == seen

    wait_until(is_quiet)
    before = site.listed()
    page.get_by_role("button", name="More", exact=True).click()
    page.get_by_role("button", name="Refresh now").click()
    wait_until(lambda: site.listed() > before)


@pytest.mark.usefixtures("unreachable_api")  # so the server brings the log
def test_an_unchanged_list_and_log_are_not_sent_again(site: Site, page: Page, gate: Path) -> None:
    job = site.submit(f"echo once; {waiting(gate)}")
    visit(page, f"{site.url}/?job={job.id}")
    choose_interval(page, "1 s")
    expect(log_of(page)).to_have_text("once")
    unchanged = re.escape(f"GET /jobs/{job.id}/logs") + '" 304'
    asked = site.processes.text
    wait_until(lambda: len(re.findall(unchanged, asked())) > 2, 120, lambda: asked()[-5_000:])
    wait_until(lambda: '"GET /jobs" 304' in asked(), 120, lambda: asked()[-5_000:])
    expect(log_of(page)).to_have_text("once")


def test_visitors_share_the_apis_responses(site: Site, page: Page, new_page: Page) -> None:
    def count_tickets() -> int:
        return len(re.findall(r'"POST /ticket" 201', site.processes.text()))

    earlier, listed = count_tickets(), site.listed()
    for tab in (page, new_page):
        visit(tab, site.url)
        choose_interval(tab, "1 s")
    wait_until(lambda: site.listed() > listed + 12, 120)
    # At worst one for each page, and again when the period ends.
    assert count_tickets() <= earlier + 4


# --- Live -----------------------------------------------------------------------------------------


def test_a_line_appears_within_300_ms_of_being_printed(site: Site, page: Page, gate: Path) -> None:
    job = site.python(
        f"import os, time\nwhile not os.path.exists({str(gate)!r}):\n"
        "    print(time.time()); time.sleep(0.1)"
    )
    visit(page, f"{site.url}/?job={job.id}")
    expect(state(page)).to_have_text("live")
    log_of(page).evaluate(
        """log => { window.delays = []; new MutationObserver(() => delays.push(
        Date.now() - 1000 * Number(log.lastChild.textContent))).observe(log, {childList: true}) }"""
    )
    delays = wait_until(lambda: len(d := page.evaluate("delays")) > 20 and d)
    print("from print to pane: median", statistics.median(delays), "ms, most", max(delays), "ms")
    assert statistics.median(delays) < 300


@pytest.mark.usefixtures("unreachable_api")
def test_without_the_stream_refreshes_update_the_log(site: Site, page: Page, gate: Path) -> None:
    job = site.python(counting(gate))
    visit(page, f"{site.url}/?job={job.id}")
    expect(state(page)).to_have_text("updates every 5 s")
    choose_interval(page, "1 s")
    expect(log_of(page)).to_contain_text("line 30")
    lines = [int(n) for n in re.findall(r"line (\d+)", log_of(page).inner_text())]
    assert lines == list(range(len(lines)))  # none is missing or doubled
    gate.touch()
    expect(state(page)).to_have_text("succeeded, exit 0")


def test_100_000_lines_at_once_do_not_freeze_the_tab(site: Site, page: Page, gate: Path) -> None:
    job = site.submit(f"{waiting(gate)}; seq 100000")
    visit(page, f"{site.url}/?job={job.id}")
    expect(state(page)).to_have_text("live")
    page.evaluate(
        """() => { let last = performance.now(); window.longest = 0; (function look(now) {
        longest = Math.max(longest, performance.now() - last); last = performance.now();
        requestAnimationFrame(look) })() }"""
    )
    gate.touch()
    expect(log_of(page).locator("div").last).to_have_text("100000")
    expect(page.get_by_text(re.compile("lines 99,9...100,000 of 100,000"))).to_be_visible()
    assert log_of(page).locator("div").count() == 2_000
    longest = page.evaluate("longest")
    print("longest time without a frame:", longest, "ms")
    assert longest < 2_000


def test_stream_and_refreshes_neither_lose_nor_repeat_lines(
    site: Site, page: Page, gate: Path
) -> None:
    job = site.python(counting(gate).replace("0.1", "0.01"))
    visit(page, f"{site.url}/?job={job.id}")
    choose_interval(page, "1 s")
    expect(log_of(page)).to_contain_text("line 500\n", use_inner_text=True)
    lines = [int(n) for n in re.findall(r"line (\d+)", log_of(page).inner_text())]
    assert lines == list(range(len(lines)))


def test_two_tabs_show_two_jobs(site: Site, page: Page, new_page: Page, gate: Path) -> None:
    jobs = [site.submit(f"echo I am {n}; {waiting(gate)}", f"tab {n}") for n in (1, 2)]
    pages = [page, new_page]
    for page, job in zip(pages, jobs, strict=True):
        visit(page, f"{site.url}/?job={job.id}")
    for n, page in enumerate(pages, 1):
        expect(log_of(page)).to_have_text(f"I am {n}")
    row(pages[0], "tab 2").click()
    expect(log_of(pages[0])).to_have_text("I am 2")
    expect(pages[0]).to_have_url(re.compile(jobs[1].id))
    expect(pages[1]).to_have_url(re.compile(jobs[1].id))


# --- Readable -------------------------------------------------------------------------------------


def test_colours_and_progress_bars_are_shown_and_html_is_escaped(site: Site, page: Page) -> None:
    job = site.submit(
        r"""printf '\033[1;31mred\033[0m plain \033[38;5;208morange\033[m\n'
        printf '10%%\r50%%\r100%%\n日本語 \377\n<img src=x onerror="document.title=1"> &amp;\n'
        printf '\033]0;title\007\033[2Kclean\033[?25h\n'
        printf "<b>\033[32m</script>\033[0m\n"; exit 3""",
        name='<img src=x onerror="document.title=1"> **bold** $x$',
    )
    site.wait(job, "failed")
    visit(page, f"{site.url}/?job={job.id}")
    log = log_of(page)
    expect(log.locator("div")).to_have_text(
        [
            "red plain orange",
            "100%",
            "日本語 \ufffd",
            '<img src=x onerror="document.title=1"> &amp;',
            "clean",
            "<b></script>",
        ]
    )
    red = log.get_by_text("red", exact=True)
    assert red.evaluate("it => getComputedStyle(it).fontWeight") == "700"
    assert red.evaluate("it => getComputedStyle(it).color.match(/\\d+/g)[0] > 120")
    orange = log.get_by_text("orange")  # rgb(255, 135, 0), made darker for a light background
    expect(orange).to_have_css("color", "rgb(167, 87, 0)")
    expect(page.locator("img[src=x]")).to_have_count(0)
    expect(row(page, "**bold** $x$")).to_contain_text("failed")
    expect(row(page, "**bold** $x$")).to_contain_text("exit 3")
    assert page.title() != "1"


def test_colours_span_lines_and_other_sequences_are_removed(
    site: Site, page: Page, gate: Path
) -> None:
    job = site.submit(
        r"""printf '\033[31mred\nstill red\033[m\n'
        printf '\033]8;;javascript:alert(1)\033\\日本\033]8;;\033\\\n'
        printf 'half \033[3\nnext\n\0337a\033(Bb\033[1;2Hc\033[38:2::1:2:3md\n\033[4;32mgr'
        """
        + waiting(gate)
        + r"; printf 'een\033[m\nplain\n'"
    )
    visit(page, f"{site.url}/?job={job.id}")
    log = log_of(page)
    lines = ["red", "still red", "日本", "half ", "next", "abcd"]
    expect(log.locator("div")).to_have_text([*lines, "gr"])
    gate.touch()
    expect(log.locator("div")).to_have_text([*lines, "green", "plain"])
    colours = [
        log.get_by_text(text, exact=True).evaluate("it => getComputedStyle(it).color")
        for text in ("red", "still red", "green", "next", "plain")
    ]
    assert colours[0] == colours[1] != colours[2] != colours[3] == colours[4]
    underlined = "it => getComputedStyle(it).textDecorationLine"
    assert log.get_by_text("green", exact=True).evaluate(underlined) == "underline"
    expect(log.locator("a")).to_have_count(0)


def test_find_wrap_times_follow_and_download_work(site: Site, page: Page, gate: Path) -> None:
    job = site.python(
        "print('x' * 3000)\nfor n in range(500): print('needle' if n % 100 == 7 else n)\n"
        + counting(gate)
    )
    visit(page, f"{site.url}/?job={job.id}")
    log = log_of(page)
    expect(log).to_contain_text("line 2")
    wide = "log => log.scrollWidth > log.clientWidth"
    assert not log.evaluate(wide)
    page.get_by_label("Wrap").uncheck()
    assert log.evaluate(wide)
    page.get_by_label("Find in log").fill("NEEDLE")
    expect(page.get_by_text("1 of 5", exact=True)).to_be_visible()  # none is below the visible part
    page.get_by_role("button", name="Previous match").click()
    expect(page.get_by_text("5 of 5", exact=True)).to_be_visible()
    page.get_by_role("button", name="Previous match").click()
    expect(page.get_by_text("4 of 5", exact=True)).to_be_visible()
    expect(page.get_by_role("button", name="Jump to latest")).to_be_visible()
    here = log.evaluate("log => log.scrollTop")
    seen = log.locator("div").count()
    wait_until(lambda: log.locator("div").count() > seen + 5)
    assert log.evaluate("log => log.scrollTop") == here
    page.get_by_role("button", name="Jump to latest").click()
    expect(page.get_by_role("button", name="Jump to latest")).to_be_hidden()
    assert log.evaluate("log => log.scrollTop") > here
    page.get_by_label("Times").select_option("Time of day")
    expect(log.locator("time").first).to_have_text(re.compile(r"\d\d:\d\d:\d\d"))
    page.get_by_label("Times").select_option("No times")
    expect(log.locator("time")).to_have_count(0)
    page.get_by_role("button", name="More actions").click()
    with page.expect_download() as download:
        page.get_by_role("link", name="Download").click()
    assert Path(download.value.path()).read_text().startswith("x" * 3000 + "\n0\n1\n")


# --- At a glance ----------------------------------------------------------------------------------


def test_usual_durations_and_the_load_of_the_workers_are_shown(site: Site, page: Page) -> None:
    jobs = [site.submit("sleep 0.2", "nightly") for _ in range(8)]
    for job in jobs:
        site.wait(job, "succeeded")
    visit(page, f"{site.url}/?job={jobs[-1].id}")
    expect(page.get_by_text("usually 0.").first).to_be_visible()
    page.get_by_role("button", name="More", exact=True).click()
    expect(page.locator(".workers")).to_contain_text("of 8 slots busy")


# --- The log --------------------------------------------------------------------------------------


def test_the_last_1000_lines_are_loaded_first_and_scrolling_up_loads_earlier_ones(
    site: Site, page: Page
) -> None:
    job = site.submit("seq 120000", "long")
    site.wait(job, "succeeded")
    visit(page, f"{site.url}/?job={job.id}")
    log = log_of(page)
    first = log.locator(".line").first
    expect(log.locator("div").last).to_have_text("120000")
    expect(log.locator("div").first).to_have_text("119001")
    expect(page.get_by_text(re.compile("lines 119,9...120,000 of 120,000"))).to_be_visible()
    expect(first).to_have_attribute("data-line", "119001")
    log.evaluate("log => { log.scrollTop = 100 }")
    expect(first).to_have_attribute("data-line", re.compile("11[5-8]..."))
    numbers = "log => [...log.children].map((line) => [line.dataset.line, line.textContent])"
    lines = log.evaluate(numbers)
    assert all(number == text for number, text in lines)
    assert [int(number) for number, _ in lines] == list(range(int(lines[0][0]), 120_001))
    top = page.get_by_text(re.compile(r"^lines 119,0..")).inner_text()  # the reader's place stays
    assert "of 120,000" in top
    number = "line => parseFloat(getComputedStyle(line, '::before').height)"
    assert first.evaluate(number) < 30  # on one line, however long
    page.get_by_role("button", name="Start").click()
    expect(first).to_have_attribute("data-line", "1")
    page.keyboard.press("G")
    expect(log.locator(".line").last).to_have_text("120000")


def test_scrolling_down_loads_later_lines_and_then_follows_the_end(
    site: Site, page: Page, gate: Path
) -> None:
    job = site.submit(f"seq 9000; {waiting(gate)}; echo last", "goes on")
    site.wait(job, "running")
    visit(page, f"{site.url}/?job={job.id}&at=0")
    log = log_of(page)
    expect(log.locator(".line").first).to_have_text("1")
    expect(state(page)).to_have_text("live")
    expect(page.get_by_role("button", name="Jump to latest")).to_have_text("↓ End")
    for _ in range(5):
        log.evaluate("log => { log.scrollTop = log.scrollHeight }")
        page.wait_for_function(
            "log => log.scrollHeight - log.scrollTop > log.clientHeight + 600"
            " || log.lastChild.textContent === '9000'",
            arg=log.element_handle(),
        )
    log.evaluate("log => { log.scrollTop = log.scrollHeight }")
    expect(log.locator(".line").last).to_have_text("9000")
    numbers = log.evaluate("log => [...log.children].map((line) => Number(line.textContent))")
    assert numbers == list(range(numbers[0], 9_001))
    expect(state(page)).to_have_text("live")
    gate.touch()
    expect(log.locator(".line").last).to_have_text("last")


def test_a_place_in_an_endless_line_is_shown(site: Site, page: Page) -> None:
    job = site.python("for n in range(60000): print(f'\\r{n:09}', end='')", "endless")
    site.wait(job, "succeeded")
    visit(page, f"{site.url}/?job={job.id}&at=200000")
    expect(log_of(page).locator(".line").first).to_have_text(re.compile("0000"))
    page.keyboard.press("G")
    expect(log_of(page).locator(".line").last).to_have_text("000059999")


def test_a_click_on_a_line_number_links_to_that_line(site: Site, page: Page) -> None:
    job = site.submit("seq -f 'line %.0f' 50000", "linked")
    site.wait(job, "succeeded")
    visit(page, f"{site.url}/?job={job.id}")
    line = log_of(page).locator("[data-line='49990']")
    line.click(position={"x": 50, "y": 8})
    expect(page).to_have_url(re.compile(r"&at=\d+"))
    offset = int(page.url.rpartition("=")[2])
    text = load_logs(site.storage, job.id, 100_000)
    assert text[offset:].startswith("line 49990\n")
    visit(page, f"{site.url}/?job={job.id}&at={text.index('line 777') + 3}")
    marked = log_of(page).locator(".marked")
    expect(marked).to_have_text("line 777")
    expect(marked).to_be_in_viewport()


def test_errors_are_counted_and_stepped_through(site: Site, page: Page) -> None:
    command = "seq 200; echo 'ValueError: one'; seq 200; printf '\\033[31mtwo\\033[m\\n'; exit 1"
    job = site.submit(command, "broken")
    calm = site.submit("seq 3; exit 2", "calm")
    for each in (job, calm):
        site.wait(each, "failed")
    visit(page, f"{site.url}/?job={job.id}")
    expect(page.get_by_text("✕ 2 errors")).to_be_visible()
    expect(page.locator(".error-ticks u")).to_have_count(2)
    current = log_of(page).locator(".current")
    page.get_by_role("button", name="Previous error").click()
    expect(current).to_have_text("ValueError: one")
    expect(current).to_be_in_viewport()
    page.keyboard.press("e")
    expect(current).to_have_text("two")
    page.keyboard.press("E")
    expect(current).to_have_text("ValueError: one")
    expect(page.get_by_text("✕ 1 of 2 errors")).to_be_visible()
    row(page, "calm").click()
    expect(page.get_by_text("no errors found", exact=True)).to_be_visible()


def test_a_log_that_is_being_loaded_is_not_requested_again(site: Site, page: Page) -> None:
    """A second response would replace the first and whatever the visitor did with it."""
    job = site.submit("echo once", "slow to come")
    site.wait(job, "succeeded")
    held: list[Route] = []
    visit(page, site.url)
    page.route(f"{site.api}/jobs/{job.id}/logs?**", lambda route: held.append(route))
    choose_interval(page, "1 s")

    def refresh() -> None:
        """Waits for three refreshes; routed requests arrive only during calls to Playwright."""
        before = site.listed()
        wait_until(lambda: page.evaluate("true") and site.listed() > before + 2)

    refresh()
    row(page, "slow to come").click()
    refresh()
    assert len(held) == 1
    held[0].continue_()
    expect(log_of(page)).to_have_text("once")


def test_errors_are_counted_in_the_whole_log_and_can_be_reached(site: Site, page: Page) -> None:
    script = "for n in range(60000): print('ValueError: bad' if n in (7, 30000) else n)\nexit(1)"
    job = site.python(script, "broken early")
    site.wait(job, "failed")
    visit(page, f"{site.url}/?job={job.id}")
    expect(page.get_by_text("✕ 2 errors", exact=True)).to_be_visible()
    expect(page.locator(".error-ticks u")).to_have_count(0)  # none of them is in the view
    current = log_of(page).locator(".current")
    for key, line, place in (("E", 30_001, 2), ("E", 8, 1), ("e", 30_001, 2), ("e", 8, 1)):
        page.keyboard.press(key)
        expect(current).to_have_attribute("data-line", str(line))
        expect(current).to_be_in_viewport()
        expect(page.get_by_text(f"✕ {place} of 2 errors", exact=True)).to_be_visible()
    expect(page.locator(".error-ticks u")).to_have_count(1)


def test_only_the_end_of_a_huge_log_is_searched_for_errors(site: Site, page: Page) -> None:
    script = (
        "print('ValueError: too early')\nfor n in range(9000): print('x' * 1000)\n"
        "print('ValueError: late')\nexit(1)"
    )
    job = site.python(script, "huge")
    site.wait(job, "failed")
    visit(page, f"{site.url}/?job={job.id}")
    expect(page.get_by_text("✕ 1 error in the last 8 MiB", exact=True)).to_be_visible()


def test_the_pill_shows_the_state_of_the_log(serve: Serve, page: Page, gate: Path) -> None:
    with serve(slots=1) as site:
        job = site.python("for n in range(200): print(n)\n" + counting(gate), "first")
        site.wait(job, "running")
        for name in ("second", "third"):
            site.submit("true", name)
        visit(page, f"{site.url}/?job={job.id}")
        expect(state(page)).to_have_text("live")
        log_of(page).evaluate("log => { log.scrollTop = 200 }")
        expect(page.get_by_role("button", name="Jump to latest")).to_have_text(
            re.compile(r"↓ \d+ new")
        )
        row(page, "third").click()
        expect(state(page)).to_have_text("queued, 2nd, slot busy")
        row(page, "first").click()
        expect(state(page)).to_have_text("live")
        site.kill_api()
        expect(page.get_by_text("Can't reach the API")).to_be_visible()
        expect(state(page)).to_have_text(re.compile(r"reconnecting"))
        took = page.locator(".head-facts").inner_text()
        shift_clock(page, 60_000)
        expect(page.locator(".updated")).to_have_class("updated late")
        assert (
            page.locator(".head-facts").inner_text() == took
        )  # it is not known how long it has run
        gate.touch()


def test_silence_is_reported_after_a_minute(site: Site, page: Page, gate: Path) -> None:
    job = site.submit(f"echo a word; {waiting(gate)}", "quiet")
    visit(page, f"{site.url}/?job={job.id}")
    expect(log_of(page)).to_have_text("a word")
    expect(state(page)).to_have_text("live")
    shift_clock(page, 200_000)
    expect(state(page)).to_have_text(re.compile("^no output for 3 min"))


def test_a_trimmed_log_shows_how_much_was_deleted(site: Site, page: Page) -> None:
    job = site.submit("seq 1000000", "cut")
    site.wait(job, "succeeded")
    (path,) = site.root.glob(f"jobs/succeeded/*/{job.id}/output.log")
    punch = ["fallocate", "--punch-hole", "--offset=0", "--length=4MiB", str(path)]
    subprocess.run(punch, check=True)
    visit(page, f"{site.url}/?job={job.id}")
    expect(log_of(page)).to_contain_text("1000000")
    page.get_by_role("button", name="Start").click()
    expect(page.get_by_text("The first 4.0 MiB of this log were deleted")).to_be_visible()


def test_details_are_a_table_and_a_long_command_expands_and_settings_are_kept(
    site: Site, page: Page
) -> None:
    command = "echo start\n" + "\n".join(f"echo {n}" for n in range(40))
    job = site.submit(command, "long command", env={"KEY": "hidden value"})
    site.wait(job, "succeeded")
    visit(page, f"{site.url}/?job={job.id}")
    shown = page.get_by_role("button", name="Show the whole command")
    low = shown.bounding_box()
    shown.click()
    high = shown.bounding_box()
    assert low and high and low["height"] < 40 < 100 < high["height"]
    page.get_by_role("button", name="Details").click()
    expect(page.get_by_role("row", name="Exit code 0")).to_be_visible()
    assert "hidden value" not in page.content()
    page.get_by_role("row", name="KEY").get_by_role("button").click()
    expect(page.get_by_role("row", name="KEY")).to_contain_text("hidden value")
    page.get_by_label("Wrap").uncheck()
    page.get_by_label("Times").select_option("Time of day")
    visit(page, f"{site.url}/?job={job.id}")
    expect(page.get_by_label("Wrap")).not_to_be_checked()
    expect(log_of(page).locator("time").first).to_be_visible()


def test_a_log_that_its_job_truncates_is_shown_from_its_new_end(
    site: Site, page: Page, gate: Path
) -> None:
    line = f"seq 500; {waiting(gate)}; echo new beginning >/dev/stderr; sleep 1; echo and on"
    job = site.submit(f"{line}; {waiting(Path(f'{gate}2'))}", "truncates")
    visit(page, f"{site.url}/?job={job.id}")
    expect(log_of(page)).to_contain_text("500")
    gate.touch()
    expect(log_of(page)).to_have_text(re.compile(r"^\s*new beginning\s*and on\s*$"))
    Path(f"{gate}2").touch()
    expect(state(page)).to_have_text("succeeded, exit 0")


# --- It calls -------------------------------------------------------------------------------------


def test_the_title_counts_running_jobs_and_unseen_failures(
    site: Site, page: Page, gate: Path
) -> None:
    site.submit(f"{waiting(gate)}; exit 1", "will fail")
    visit(page, site.url)
    page.evaluate("window.looks = false; document.hasFocus = () => window.looks")
    expect(page).to_have_title(re.compile(r"^▶\d+ Tailboard"))
    choose_interval(page, "1 s")
    icon = "document.querySelector('link[rel~=icon]').href"
    blue = page.evaluate(icon)
    gate.touch()
    expect(page).to_have_title(re.compile("^✕1 "))
    assert page.evaluate(icon) != blue
    page.evaluate("window.looks = true; dispatchEvent(new Event('focus'))")
    expect(page).to_have_title(re.compile("^(▶.*)?Tailboard"))


def test_the_bell_asks_on_click_and_then_notifies_of_the_end(
    site: Site, new_page: Page, gate: Path
) -> None:
    page = new_page
    page.context.grant_permissions(["notifications"])
    page.add_init_script(
        "window.asked = 0; window.notified = [];"
        "window.Notification = class { static permission = 'default';"
        " static async requestPermission() { asked += 1; this.permission = 'granted';"
        " return 'granted' } constructor(text) { notified.push(text) } };"
    )
    job = site.submit(waiting(gate), "ring me")
    visit(page, f"{site.url}/?job={job.id}")
    expect(state(page)).to_have_text("live")
    assert page.evaluate("asked") == 0
    page.get_by_role("button", name="Notify me").click()
    expect(page.get_by_role("button", name="Notify me", pressed=True)).to_be_visible()
    gate.touch()
    expect(state(page)).to_have_text("succeeded, exit 0")
    page.wait_for_function("notified.length > 0")
    assert page.evaluate("[asked, notified]") == [1, ["ring me: succeeded"]]
    page.context.clear_permissions()


# --- Accessibility --------------------------------------------------------------------------------


def test_axe_finds_nothing_serious(site: Site, page: Page) -> None:
    page.set_viewport_size({"width": 1360, "height": 800})
    job = site.submit(
        r"printf '\033[31mred \033[32mgreen \033[33myellow \033[34mblue \033[35mmagenta '"
        r"; printf '\033[36mcyan \033[90mgrey\033[m\nFAILED\n'; exit 1",
        "colours",
    )
    site.wait(job, "failed")
    visit(page, f"{site.url}/?list=1&job={job.id}")  # on a phone, the list is behind the log
    expect(log_of(page)).to_contain_text("magenta")
    page.get_by_role("button", name="Details").click()
    expect(page.get_by_role("rowheader", name="Submitted")).to_be_visible()
    check_with_axe(page)
    page.keyboard.press("c")
    check_with_axe(page)
    page.keyboard.press("Escape")
    page.set_viewport_size({"width": 390, "height": 844})
    check_with_axe(page)
    page.get_by_role("button", name="Back", exact=True).click()
    expect(row(page, "colours").first).to_be_visible()
    check_with_axe(page)
    page.set_viewport_size({"width": 1360, "height": 800})
    check_with_axe(page)


def test_the_log_fits_100_columns_and_the_page_does_not_scroll(site: Site, page: Page) -> None:
    page.set_viewport_size({"width": 1360, "height": 800})
    job = site.submit("python3 -c \"print('x' * 100)\"", "wide")
    site.wait(job, "succeeded")
    visit(page, f"{site.url}/?job={job.id}")
    line = log_of(page).locator(".line").first
    expect(line).to_have_text("x" * 100)
    box = line.bounding_box()
    assert box and box["height"] < 30
    listed = row(page, "wide").bounding_box()
    assert listed and listed["height"] == 32
    rows = page.get_by_role("list", name="Jobs")
    assert rows.evaluate("list => list.clientHeight / 32") >= 22
    assert page.evaluate("document.scrollingElement.scrollHeight") <= 800
    log = log_of(page).bounding_box()
    assert log and log["height"] > 500


def test_an_upgraded_page_never_mixes_old_and_new_modules(
    site: Site, tmp_path: Path, page: Page
) -> None:
    """The browser caches files for days if they were last changed long ago."""
    home = tmp_path / "home"
    shutil.copytree(ROOT / "static", home / "static")
    shutil.copytree(ROOT / ".streamlit", home / ".streamlit")
    shutil.copytree(ROOT / "tailboard", home / "tailboard")
    shutil.copy(ROOT / "dashboard.py", home)
    modules = [home / "static" / name for name in ("log_pane.js", "format.js", "log_text.js")]

    def release(version: int) -> None:
        for path in modules:
            text = (ROOT / "static" / path.name).read_text()
            path.write_text(f"{text}\n(globalThis.versions ??= []).push({version});\n")
            os.utime(path, (1_000_000_000, 1_000_000_000))

    with site.serve_dashboard(home) as url:
        for version in (1, 2):
            release(version)
            visit(page, url)
            page.wait_for_function("globalThis.versions?.length === 3")
            assert page.evaluate("versions") == [version] * 3
            page.goto("about:blank")  # or the next visit would be a reload


def test_a_second_visit_loads_no_file_of_the_page_again(site: Site, page: Page) -> None:
    visit(page, site.url)
    for name in ("format.js", "page.css", "error_patterns.json"):
        found = requests.get(f"{site.url}/app/static/{name}")
        assert (found.status_code, found.headers["Cache-Control"]) == (200, "max-age=86400")
    assert "max-age=86400" not in requests.get(site.url).headers.get("Cache-Control", "")
    fetched = """() => performance.getEntriesByType("resource").filter(
        (entry) => entry.name.includes("/app/static/") && entry.transferSize > 0).length"""
    page.reload()
    expect(page.locator(".job-list:not([inert])")).to_be_attached()
    assert page.evaluate(fetched) == 0


# --- Manners --------------------------------------------------------------------------------------


def test_the_page_survives_a_restart_of_the_api(site: Site, page: Page, gate: Path) -> None:
    job = site.python(counting(gate), "through it all")
    visit(page, f"{site.url}/?job={job.id}")
    expect(state(page)).to_have_text("live")
    choose_interval(page, "1 s")
    site.kill_api()
    expect(page.get_by_text("Can't reach the API")).to_be_visible()
    expect(log_of(page)).to_contain_text("line 1")
    expect(row(page, "through it all")).to_be_visible()
    site.restart_api()
    expect(page.get_by_text("Can't reach the API")).to_have_count(0)
    expect(state(page)).to_have_text("live")
    lines = [int(n) for n in re.findall(r"line (\d+)", log_of(page).inner_text())]
    assert lines == list(range(len(lines)))
    expect(page.get_by_test_id("stException")).to_have_count(0)


def test_an_unreachable_api_or_unknown_job_is_reported_in_one_sentence(
    site: Site, page: Page
) -> None:
    visit(page, f"{site.url}/?job=nonsense")
    expect(page.get_by_text("Job not found.")).to_be_visible()
    expect(page.get_by_role("button", name="+ Run")).to_be_visible()
    visit(page, f"{site.url}/?status=nonsense")
    expect(page.get_by_text("status must be one of")).to_be_visible()
    expect(page.get_by_test_id("stException")).to_have_count(0)


def test_everything_is_available_at_phone_width_and_in_dark_mode(
    site: Site, page: Page, gate: Path
) -> None:
    page.set_viewport_size({"width": 390, "height": 844})
    page.emulate_media(color_scheme="dark")
    job = site.submit(f"echo hello; {waiting(gate)}", "on the phone")
    visit(page, f"{site.url}/?list=1&job={job.id}")
    expect(log_of(page)).to_have_text("hello")
    expect(page.get_by_role("button", name="Run again")).to_be_visible()
    assert page.evaluate("document.scrollingElement.scrollWidth") <= 390
    assert page.evaluate("document.scrollingElement.scrollHeight") <= 844
    expect(row(page, "on the phone")).to_be_hidden()
    dark = log_of(page).evaluate("log => getComputedStyle(log).backgroundColor.match(/\\d+/g)[0]")
    assert int(dark) < 80
    page.get_by_role("button", name="Back", exact=True).click()
    expect(row(page, "on the phone")).to_be_visible()
    expect(log_of(page)).to_be_hidden()
    for target in (row(page, "on the phone"), page.get_by_role("button", name="+ Run")):
        box = target.bounding_box()
        assert box and box["height"] >= 36  # wide enough for a finger
    row(page, "on the phone").click()
    expect(log_of(page)).to_have_text("hello")


# --- Functions without Streamlit ------------------------------------------------------------------


def test_forms_and_jobs_convert_into_each_other() -> None:
    job = {"id": "1", "command": ["a", "b c"], "env": {"A": "x=y"}, "timeout": 2.0, "retries": 1}
    values = forms.form_values(job)
    body, wrong = forms.parse_form(values, job["env"])
    assert body["command"] == "a 'b c'"
    assert (body["env"], body["timeout"], body["retries"]) == ({"A": "x=y"}, 2.0, 1)
    assert not wrong
    assert forms.is_same_job(body, job)
    assert not forms.is_same_job(body | {"name": "another"}, job)


def test_a_form_hides_the_values_of_variables_and_keeps_those_that_are_not_changed() -> None:
    values = forms.form_values({"command": "c", "env": {"TOKEN": "secret", "A": "1"}})
    assert values["env"] == "TOKEN=•••\nA=•••"
    values["env"] = "TOKEN=•••\nA=2\nB=3"
    body, _ = forms.parse_form(values, {"TOKEN": "secret", "A": "1"})
    assert body["env"] == {"TOKEN": "secret", "A": "2", "B": "3"}
    assert forms.parse_form(values)[1] == {"env": "Enter a value for TOKEN."}


@pytest.mark.parametrize("timeout", [1_234_567, 1_000_000_000, 0.25, 86_400.5])
def test_a_number_that_the_form_shows_is_the_number_that_it_sends(timeout: float) -> None:
    values = forms.form_values({"command": "true", "timeout": timeout})
    assert "e" not in values["timeout"]
    assert forms.parse_form(values)[0]["timeout"] == timeout


@pytest.mark.parametrize(
    ("field", "value"), [("command", " "), ("env", "=x"), ("timeout", "soon"), ("retries", "1.5")]
)
def test_an_invalid_field_of_the_form_is_named(field: str, value: str) -> None:
    wrong = forms.parse_form({"command": "true", field: value})[1]
    assert list(wrong) == [field]


def test_an_error_is_shown_at_the_field_that_it_names() -> None:
    assert forms.form_errors(client.ApiError("queue must be …")) == {"queue": "queue must be …"}
    cwd = forms.form_errors(client.ApiError("cwd must be an absolute path"))
    assert cwd == {"cwd": "Use an absolute path, such as /srv/app."}
    assert forms.form_errors(client.ApiError("The API …")) == {"": "The API …"}


def test_a_title_is_the_name_or_the_first_line_of_the_command() -> None:
    assert rows_module.job_title({"id": "1", "name": "n", "command": "c"}) == "n"
    assert rows_module.job_title({"id": "1", "name": None, "command": "\n one\ntwo"}) == "one"
    assert rows_module.job_title({"id": "1", "command": ["echo", "a b"]}) == "echo 'a b'"
    assert rows_module.job_title({"id": "1", "command": None}) == "1"


def test_refreshes_stop_only_if_the_job_has_ended_without_a_problem() -> None:
    running, lost = {"id": "1", "status": "running"}, {"id": "1", "status": "lost"}
    assert rows_module.log_interval("5 s", running, "") == 5
    assert rows_module.log_interval("off", running, "") is None
    assert rows_module.log_interval("5 s", lost, "") is None
    assert rows_module.log_interval("5 s", lost, "The API does not answer.") == 5
    assert rows_module.log_interval("5 s", None, "") is None


def test_environment_values_are_not_sent_to_the_browser() -> None:
    job = {"id": "1", "command": "c", "env": {"KEY": "secret"}}
    assert rows_module.job_details(job)["env_names"] == ["KEY"]
    assert "secret" not in str(rows_module.job_details(job)) + str(rows_module.job_row(job))


def test_values_of_params_are_sent_to_the_browser_except_secrets() -> None:
    values = {"VERSION": "1.2" * 100, "API_TOKEN": "secret", "MONKEY": "george"}
    job = {"id": "1", "command": "c", "env": values, "values": values}
    whole, listed = rows_module.job_details(job)["values"], rows_module.job_row(job)["values"]
    assert whole == values | {"API_TOKEN": "•••"}
    assert listed == whole | {"VERSION": f"{values['VERSION'][:80]}…"}
    assert rows_module.job_row({"id": "1", "command": "c"})["values"] == {}


def test_failures_are_counted_by_the_visitors_local_day() -> None:
    now = datetime(2026, 11, 25, 1, 0, tzinfo=ZoneInfo("Asia/Tokyo"))
    assert rows_module.last_midnight(now) == "2026-11-24T15:00:00Z"
