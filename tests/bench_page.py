"""How fast the page is, in real Chromium: figures of bench.py --page."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from browser import chromium
from conftest import wait_until
from figures import quantiles, say_alone
from page_site import Site, log_of, row, served, state, visit, waiting
from playwright.sync_api import Browser, CDPSession, Page, expect

CLICKS = 30
RUNS = 10
LONG_LINES = "python3 -c \"for n in range(2000): print(n, 'word ' * 4000)\""
SECTIONS = (  # 5,000 lines a second
    'for part in $(seq 75); do echo "--- Part $part";'
    " for _ in 1 2 3 4; do seq -f 'part %.0f of a job' 250; sleep 0.05; done; done"
)
LINES_OF_A_DAY = 200_000  # an 8-hour log with 7 lines a second

WATCH_FRAMES = """() => {
    let last = performance.now();
    window.longest = 0;
    const look = (now) => {
        longest = Math.max(longest, now - last);
        last = now;
        requestAnimationFrame(look);
    };
    requestAnimationFrame(look);
}"""
# From the time in a line to the moment when the line is in the page, in seconds.
WATCH_DELAYS = """log => {
    window.delays = [];
    const note = () => delays.push(Date.now() / 1000 - Number(log.lastChild.textContent));
    new MutationObserver(note).observe(log, {childList: true});
}"""
# From a click on a row to the first line of that job in the pane.
CLICK_TO_LINES = """(link) => new Promise((resolve) => {
    const panes = [...document.querySelectorAll('*')].map((node) => node.shadowRoot);
    const view = panes.find((root) => root?.querySelector('.view')).querySelector('.view');
    const begun = performance.now();
    const wanted = link.dataset.wanted;
    const look = () => {
        const isShown = view.lastElementChild?.textContent.includes(wanted);
        if (isShown) {
            resolve(performance.now() - begun);
        } else {
            requestAnimationFrame(look);
        }
    };
    link.click();
    look();
})"""


@contextmanager
def open_site(folder: Path) -> Iterator[tuple[Site, Browser]]:
    """A site of its own for one figure, with a browser that has visited it before."""
    with served(folder / "site", slots=2) as site, chromium() as browser:
        page = open_page(browser)
        visit(page, site.url)
        page.close()
        yield site, browser


def say_times(what: str, times: list[float], target: str) -> None:
    """Median and 95th percentile of times in seconds."""
    median, p95 = quantiles(times)
    say_alone(f"{what}, median", median, "ms", f"target {target}")
    say_alone(f"{what}, p95", p95, "ms")


def open_page(browser: Browser) -> Page:
    return browser.new_page(viewport={"width": 1360, "height": 800})


def click_to_lines(folder: Path) -> None:
    """The time from a click in a list of 200 jobs to the job's lines, and the bytes that the page's
    server sends meanwhile."""
    with open_site(folder) as (site, browser):
        names = range(CLICKS)
        jobs = [site.submit(f"seq 3000; echo this is job {n}", f"click {n:02}") for n in names]
        for n in range(200 - CLICKS):
            site.submit("true", f"filler {n}", queue="nobody")
        for job in jobs:
            site.wait(job, "succeeded")
        page = open_page(browser)
        received: list[int] = []
        page.on("websocket", lambda socket: socket.on("framereceived", count_into(received)))
        visit(page, site.url)
        page.get_by_label("Search jobs").fill("click")
        expect(row(page, "click")).to_have_count(CLICKS)
        times = []
        received.clear()
        for n in names:
            link = row(page, f"click {n:02}")
            link.evaluate(f"link => {{ link.dataset.wanted = 'this is job {n}' }}")
            times.append(float(link.evaluate(CLICK_TO_LINES)) / 1e3)
            expect(page.locator("[data-test-script-state=notRunning]")).to_be_visible()
        say_times("click to lines", times, "150, p95 300")
        say_alone("a click, from the page's server", sum(received) / CLICKS, "bytes")
        visit(page, site.url)
        received.clear()
        site.submit("true", "one more", queue="nobody")
        expect(row(page, "one more")).to_be_visible()
        say_alone("a change in a list of 200, likewise", sum(received), "bytes")


def count_into(received: list[int]) -> Callable[[str | bytes], None]:
    return lambda payload: received.append(len(payload))


def run_to_first_line(folder: Path) -> None:
    times = []
    with open_site(folder) as (site, browser):
        page = open_page(browser)
        visit(page, site.url)
        for n in range(RUNS):
            page.keyboard.press("c")
            page.get_by_label("Command", exact=True).fill(f"echo run number {n}")
            begun = time.perf_counter()
            page.keyboard.press("Control+Enter")
            log_of(page).get_by_text(f"run number {n}", exact=True).wait_for()
            times.append(time.perf_counter() - begun)
            expect(state(page)).to_have_text("succeeded, exit 0")
    say_times("run to first line", times, "500")


def cold_link(folder: Path) -> None:
    """The time from opening a link to a job's lines, in a browser that has nothing of the page in
    its cache."""
    times = []
    with open_site(folder) as (site, browser):
        job = site.submit("seq 3000", "cold")
        site.wait(job, "succeeded")
        for _ in range(5):
            context = browser.new_context(viewport={"width": 1360, "height": 800})
            page = context.new_page()
            begun = time.perf_counter()
            page.goto(f"{site.url}/?job={job.id}")
            log_of(page).get_by_text("3000", exact=True).wait_for()
            times.append(time.perf_counter() - begun)
            context.close()
    say_times("a cold link to its lines", times, "2500")


def line_to_pane(folder: Path) -> None:
    """The time from a program's write of a line to that line in the page."""
    gate = folder / "gate"
    with open_site(folder) as (site, browser):
        job = site.python(
            f"import os, time\nwhile not os.path.exists({str(gate)!r}):\n"
            "    print(time.time()); time.sleep(0.05)"
        )
        page = open_page(browser)
        visit(page, f"{site.url}/?job={job.id}")
        expect(state(page)).to_have_text("live")
        log_of(page).evaluate(WATCH_DELAYS)
        delays = wait_until(lambda: len(found := page.evaluate("delays")) > 100 and found, 60)
        gate.touch()
    say_times("line to pane", delays, "p95 100")


def longest_frame(folder: Path, what: str, command: str) -> None:
    """The longest time between two frames of the page while lines flood in."""
    gate = folder / "gate"
    with open_site(folder) as (site, browser):
        job = site.submit(f"{waiting(gate)}; {command}; echo the end")
        page = open_page(browser)
        visit(page, f"{site.url}/?job={job.id}")
        expect(state(page)).to_have_text("live")
        page.evaluate(WATCH_FRAMES)
        gate.touch()
        expect(log_of(page).locator(".line").last).to_have_text("the end", timeout=120_000)
        say_alone(f"{what}, longest frame", page.evaluate("longest"), "ms", "target 150")


def heap(session: CDPSession) -> float:
    """MiB in use after garbage collection."""
    session.send("HeapProfiler.enable")
    session.send("HeapProfiler.collectGarbage")
    return float(session.send("Runtime.getHeapUsage")["usedSize"]) / (1 << 20)


def long_log(folder: Path, is_paused: bool) -> None:
    """An 8-hour log at speed: the heap after a quarter of it, and at its end. A view that is to be
    paused is scrolled up before the quarter begins, since a flood would move it."""
    gates = [folder / name for name in ("quarter", "rest")]
    with open_site(folder) as (site, browser):
        job = site.python(long_program(*gates))
        page = open_page(browser)
        session = page.context.new_cdp_session(page)
        visit(page, f"{site.url}/?job={job.id}")
        expect(log_of(page).get_by_text("the beginning", exact=True)).to_be_visible()
        jump = page.get_by_role("button", name="Jump to latest")
        if is_paused:
            log_of(page).evaluate("log => { log.scrollTop = 0 }")
            expect(jump).to_be_visible()
        gates[0].touch()
        if is_paused:
            new = f"{LINES_OF_A_DAY // 4 + 1:,} new"  # and the line `quarter`
            expect(jump).to_contain_text(new, timeout=120_000)
        else:
            quarter = log_of(page).get_by_text("quarter", exact=True)
            expect(quarter).to_be_visible(timeout=120_000)
        before = heap(session)
        gates[1].touch()
        expect(state(page)).to_have_text("succeeded, exit 0", timeout=300_000)
        after = heap(session)
        kept = f"{log_of(page).locator('.line').count()} lines kept"
    how = "paused" if is_paused else "followed"
    say_alone(f"heap of a long log, {how}, after a quarter", before, "MiB")
    say_alone(f"heap of a long log, {how}, at its end", after, "MiB", kept)


def long_program(quarter: Path, rest: Path) -> str:
    """A program that writes more lines than the view keeps, then a quarter of a day's log once one
    file exists, and the rest once another does."""
    return (
        "import os, time\n"
        "def wait(path):\n    while not os.path.exists(path): time.sleep(0.05)\n"
        "def write(count):\n    for n in range(count):\n"
        "        print(n, 'a line of a log, as programs write them')\n"
        "        if n % 100 == 0: time.sleep(0.005)\n"
        "write(200); print('the beginning')\n"
        f"wait({str(quarter)!r}); write({LINES_OF_A_DAY // 4}); print('quarter')\n"
        f"wait({str(rest)!r}); write({LINES_OF_A_DAY * 3 // 4})\nprint('the end')"
    )


def idle_requests(folder: Path) -> None:
    """The requests that an idle page sends to the API."""
    with open_site(folder) as (site, browser):
        site.wait(site.submit("true"), "succeeded")
        visit(open_page(browser), site.url)
        done = time.monotonic() + 30
        before = site.processes.text().count('"GET ')
        wait_until(lambda: time.monotonic() > done, 60)
        requests = 2 * (site.processes.text().count('"GET ') - before)
    say_alone("an idle page", requests, "requests/min")
