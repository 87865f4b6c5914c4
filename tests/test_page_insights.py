"""Progress, results and the lines that are new in a failure, as the page shows them."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from page_site import Site, check_with_axe, choose_interval, log_of, row, state, visit, waiting
from playwright.sync_api import Locator, Page, Route, expect

from tailboard.job import Job
from tailboard.page import rows


@pytest.fixture
def site(page_site: Site) -> Site:
    return page_site


@contextmanager
def no_explanations(page: Page) -> Iterator[None]:
    """The browser gets no explanations. `Page.route` would turn off its cache, too."""
    session = page.context.new_cdp_session(page)
    session.send("Network.enable")
    session.send("Network.setBlockedURLs", {"urls": ["*/explain*"]})
    yield
    session.detach()


def progress_bar(node: Locator) -> Locator:
    return node.get_by_role("progressbar")


def test_a_row_is_not_sent_again_for_each_small_step_of_its_job() -> None:
    progress = {"percent": 44.96, "text": "x" * 300, "source": "marker", "seconds_left": None}
    row = rows.job_row({"id": "1", "command": "c", "status": "running", "progress": progress})
    assert row["progress"] == progress | {"percent": 44, "text": "x" * 100 + "…"}
    left = [rows.roughly(seconds) for seconds in (0, 4, 16, 59, 61, 100, 239.7)]
    assert left == [0, 10, 20, 60, 60, 120, 240]
    ended = {"id": "1", "command": "c", "status": "succeeded", "progress": progress}
    assert "progress" not in rows.job_row(ended)


def test_progress_is_shown_in_the_row_the_home_the_head_and_the_title(
    site: Site, page: Page, tmp_path: Path, gate_file: Path
) -> None:
    more = tmp_path / "more"
    job = site.submit(
        f"echo '::progress 44 <i>copying'; {waiting(more)}; echo '::progress 45 of 90';"
        f"{waiting(gate_file)}",
        "copy db1",
    )
    drawn = site.submit(rf"printf '\r 10%%|#  |\r 12%%|## |'; {waiting(gate_file)}", "fetch db1")
    for each in (job, drawn):
        site.wait(each, "running")
    visit(page, site.url)
    item = page.locator(".home-item.running", has_text="copy db1")
    expect(progress_bar(item)).to_have_attribute("aria-valuenow", "44")
    expect(item.locator(".home-time")).to_contain_text("44 % · <i>copying")
    for name, percent, kind in (
        ("copy db1", "44", "progress"),
        ("fetch db1", "12", "progress bar"),
    ):
        bar = progress_bar(row(page, name))
        expect(bar).to_have_attribute("aria-valuenow", percent)
        expect(bar).to_have_class(kind)
    expect(progress_bar(row(page, "fetch db1"))).to_have_attribute(
        "title", re.compile("read from the log's progress bar$")
    )
    row(page, "copy db1").click()
    head = page.locator(".head-progress")
    expect(head).to_have_text("44 % · <i>copying")
    expect(page).to_have_title("44 % copy db1 · Tailboard")
    check_with_axe(page)
    choose_interval(page, "off")
    with no_explanations(page):  # so that only the stream of the log brings what is new
        more.touch()
        expect(head).to_have_text("50 %")
        expect(page).to_have_title("50 % copy db1 · Tailboard")
    gate_file.touch()
    expect(state(page)).to_have_text("succeeded, exit 0")
    expect(head).to_be_hidden()
    expect(page).to_have_title("✓ copy db1 · Tailboard")
    choose_interval(page, "1 s")
    expect(progress_bar(row(page, "copy db1"))).to_have_count(0)


def test_results_are_shown_above_the_log_while_the_job_runs(
    site: Site, page: Page, tmp_path: Path, gate_file: Path
) -> None:
    more = tmp_path / "more"
    job = site.submit(
        f"echo '::result report=see https://example.org/1.html <b>'; {waiting(more)};"
        f"echo '::result text={'long ' * 40}'; echo ::result file=/srv/export/orders.csv;"
        "for n in 1 2 3 4 5 6; do echo ::result n$n=$n; done;"
        f"{waiting(gate_file)}",
        "with results",
    )
    visit(page, f"{site.url}/?job={job.id}")
    results = page.get_by_role("region", name="Results")
    expect(results.locator("dd")).to_have_text(["see https://example.org/1.html <b>"])
    expect(results.get_by_role("link")).to_have_attribute("href", "https://example.org/1.html")
    more.touch()
    keys = results.locator("dt")
    expect(keys).to_have_text(["report", "text", "file", "n1", "n2", "n3"])
    text = results.locator("dd", has_text="long long").locator("span").first
    one_line = text.evaluate("it => it.clientHeight")
    results.get_by_role("button", name="Show all of text").click()
    assert text.evaluate("it => it.clientHeight") > one_line
    path = results.locator("dd", has_text="orders.csv").locator("span").first
    assert path.evaluate("it => it.clientHeight") == one_line
    results.get_by_role("button", name="Show 3 more").press("Enter")
    expect(keys).to_have_count(9)
    expect(results.get_by_role("button", name="Show fewer")).to_be_focused()
    check_with_axe(page)
    results.get_by_role("button", name="Copy n6").click()
    expect(page.locator(".toast")).to_have_text(re.compile("^Copied|does not allow"))
    gate_file.touch()
    expect(state(page)).to_have_text("succeeded, exit 0")
    expect(keys).to_have_count(9)
    plain = site.submit("true", "without results")
    page.goto(f"{site.url}/?job={plain.id}")
    expect(state(page)).to_have_text("succeeded, exit 0")
    expect(results).to_be_hidden()


# --- New in this failure --------------------------------------------------------------------------

IMPORT = (
    "import sys\n"
    "new = {int(place): text for place, text in zip(sys.argv[2::2], sys.argv[3::2])}\n"
    "for n in range(3000):\n"
    "    print(f'table {n} took {n / 7:.1f} s')\n"
    "    print(new[n], end='') if n in new else None\n"
    "print('Error: 3 rows without a customer')\n"  # which the successes write, too
    "print('done')\n"
    "print(new.get(3000, ''), end='')\n"
    "raise SystemExit(int(sys.argv[1]))"
)


def run_import(site: Site, name: str, code: int, *new: str) -> Job:
    """Runs it to its end. `new` are places in its log and what it also writes there."""
    job = site.submit([sys.executable, "-c", IMPORT, str(code), *new], name)
    site.wait(job, "failed" if code else "succeeded")
    return job


@pytest.fixture(scope="module")
def failure(page_site: Site) -> str:
    """The address of a failure with three new lines, after two successes."""
    for _ in range(2):
        run_import(page_site, "import orders", 0)
    new = ("500", "table orders is empty\nusing the old one\n", "2700", "the old one is locked\n")
    job = run_import(page_site, "import orders", 1, *new)
    return f"{page_site.url}/?job={job.id}"


def only_new(page: Page) -> Locator:
    return page.get_by_role("button", name=re.compile("^Only what is new"))


def marked_lines(page: Page) -> Locator:
    return log_of(page).locator(".line:has(.new-mark)")


def test_a_failure_opens_at_its_first_new_line(failure: str, page: Page) -> None:
    """Its last error is nothing new."""
    visit(page, failure)
    first = log_of(page).locator(".line.current")
    expect(first).to_have_text("table orders is empty")
    expect(first).to_be_in_viewport()
    expect(marked_lines(page)).to_have_text(["table orders is empty", "using the old one"])
    expect(marked_lines(page).first.locator(".new-mark")).to_have_attribute(
        "title", "Not in the last 2 successes"
    )
    page.get_by_role("button", name="Next new line").click()
    expect(log_of(page).locator(".line.current")).to_have_text("the old one is locked")
    page.get_by_role("button", name=re.compile("^Why it failed")).click()
    expect(log_of(page).locator(".line.current")).to_have_text("Error: 3 rows without a customer")
    page.goto(f"{failure}&at=hint")
    expect(first).to_have_text("table orders is empty")
    check_with_axe(page)


def test_only_the_new_lines_are_shown_with_their_gaps(failure: str, page: Page) -> None:
    visit(page, failure)
    expect(only_new(page)).to_have_accessible_name("Only what is new (3)")
    only_new(page).click()
    for width in (1280, 1080, 1000, 820, 640):
        page.set_viewport_size({"width": width, "height": 800})
        field, options = (page.locator(name).bounding_box() for name in (".find-box", ".wrap"))
        assert field and options and field["x"] + field["width"] <= options["x"]
        assert options["x"] + 100 < width
    page.set_viewport_size({"width": 1280, "height": 800})
    lines = page.get_by_role("region", name="New lines")
    expect(lines.locator(".line")).to_have_text(
        ["table orders is empty", "using the old one", "the old one is locked"]
    )
    expect(lines.locator(".line").last).to_have_attribute("data-line", "2704")
    expect(lines.locator(".gap")).to_have_text(["⋯ 501 lines", "⋯ 2,200 lines"])
    lines.focus()
    page.keyboard.press("Escape")
    expect(lines).to_be_hidden()
    only_new(page).click()
    lines.locator(".gap").last.click()
    expect(lines).to_be_hidden()
    expect(log_of(page).locator(".line.current")).to_have_text("using the old one")
    only_new(page).click()
    page.get_by_role("button", name="Next error").click()
    expect(lines).to_be_hidden()


def test_a_reader_who_has_scrolled_stays_there(failure: str, page: Page) -> None:
    held: list[Route] = []
    page.route("**/explain*", lambda route: held.append(route))
    visit(page, failure)
    expect(log_of(page)).to_contain_text("done")
    log_of(page).hover()
    page.mouse.wheel(0, -300)
    expect(page.get_by_role("button", name="Jump to latest")).to_be_visible()
    expect(only_new(page)).to_be_hidden()
    top = log_of(page).evaluate("it => it.scrollTop")
    held[0].continue_()
    expect(only_new(page)).to_be_visible()
    expect(marked_lines(page)).to_have_text(["the old one is locked"])
    assert log_of(page).evaluate("it => it.scrollTop") == top


def test_a_failure_opens_at_its_end_if_its_last_error_is_new(
    page_site: Site, failure: str, page: Page
) -> None:
    """Someone who runs a command for the first time sees nothing of all this."""
    new = ("100", "using the old one\n", "3000", "Error: no space left\n")
    job = run_import(page_site, "import orders", 1, *new)
    visit(page, f"{page_site.url}/?job={job.id}")
    expect(only_new(page)).to_have_accessible_name("Only what is new (2)")
    expect(marked_lines(page)).to_have_text(["Error: no space left"])
    expect(log_of(page).locator(".line.current")).to_have_count(0)
    first = run_import(page_site, "import for the first time", 1)
    page.goto(f"{page_site.url}/?job={first.id}")
    expect(page.locator(".error-count")).to_have_text("✕ 1 error")
    expect(page.locator(".news")).to_be_hidden()
