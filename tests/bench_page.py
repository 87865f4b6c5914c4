"""How fast the page is, in real Chromium: `python tests/bench.py --page`. Times are of this machine
and this hour."""

from __future__ import annotations

import re
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from browser import chromium
from conftest import wait_until
from playwright.sync_api import Browser, CDPSession, Page, expect
from test_dashboard import Site, log_of, row, served, state, visit, waiting

CLICKS = 30
RUNS = 10
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


def report(what: str, times: list[float], reach: str) -> None:
    times = sorted(times)
    p95 = times[int(len(times) * 0.95)]
    median = statistics.median(times)
    print(f"{what:44} median {median:7.0f}  p95 {p95:7.0f}  ms  ({reach})", flush=True)


def open_page(browser: Browser) -> Page:
    return browser.new_page(viewport={"width": 1360, "height": 800})


def click_to_lines(site: Site, browser: Browser) -> None:
    jobs = [site.submit(f"seq 3000; echo this is job {n}", f"click {n:02}") for n in range(CLICKS)]
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
    for n in range(CLICKS):
        link = row(page, f"click {n:02}")
        link.evaluate(f"link => {{ link.dataset.wanted = 'this is job {n}' }}")
        times.append(float(link.evaluate(CLICK_TO_LINES)))
        expect(page.locator("[data-test-script-state=notRunning]")).to_be_visible()
    report("click to lines", times, "median 150, p95 300")
    print(f"bytes from the page's server a click: {sum(received) / CLICKS:,.0f}")
    visit(page, site.url)
    received.clear()
    site.submit("true", "one more", queue="nobody")
    expect(row(page, "one more")).to_be_visible()
    print(f"bytes from the page's server a change in a list of 200: {sum(received):,.0f}")
    page.close()


def count_into(received: list[int]) -> Callable[[str | bytes], None]:
    return lambda payload: received.append(len(payload))


def run_to_first_line(site: Site, browser: Browser) -> None:
    page = open_page(browser)
    visit(page, site.url)
    times = []
    for n in range(RUNS):
        page.keyboard.press("c")
        page.get_by_label("Command", exact=True).fill(f"echo run number {n}")
        begun = time.perf_counter()
        page.keyboard.press("Control+Enter")
        log_of(page).get_by_text(f"run number {n}", exact=True).wait_for()
        times.append((time.perf_counter() - begun) * 1e3)
        expect(state(page)).to_have_text("ended, exit 0")
    report("run to first line", times, "500")
    page.close()


def cold_link(site: Site, browser: Browser) -> None:
    job = site.submit("seq 3000", "cold")
    site.wait(job, "succeeded")
    times = []
    for _ in range(5):
        context = browser.new_context(viewport={"width": 1360, "height": 800})
        page = context.new_page()
        begun = time.perf_counter()
        page.goto(f"{site.url}/?job={job.id}")
        log_of(page).get_by_text("3000", exact=True).wait_for()
        times.append((time.perf_counter() - begun) * 1e3)
        context.close()
    report("a cold link to its lines", times, "2500")


def line_to_pane(site: Site, browser: Browser, folder: Path) -> None:
    gate = folder / "line gate"
    job = site.python(
        f"import os, time\nwhile not os.path.exists({str(gate)!r}):\n"
        "    print(time.time()); time.sleep(0.05)"
    )
    page = open_page(browser)
    visit(page, f"{site.url}/?job={job.id}")
    expect(state(page)).to_have_text("live")
    log_of(page).evaluate(
        """log => { window.delays = []; new MutationObserver(() => delays.push(
        Date.now() - 1000 * Number(log.lastChild.textContent))).observe(log, {childList: true}) }"""
    )
    delays: list[float] = wait_until(lambda: len(d := page.evaluate("delays")) > 100 and d, 60)
    gate.touch()
    report("line to pane", delays, "p95 100")
    page.close()


def longest_frame(site: Site, browser: Browser, folder: Path, what: str, command: str) -> None:
    """How long the page has gone without a frame while a flood came."""
    gate = folder / f"gate {time.time()}"
    job = site.submit(waiting(gate).replace(str(gate), f"'{gate}'") + f"; {command}; echo the end")
    page = open_page(browser)
    visit(page, f"{site.url}/?job={job.id}")
    expect(state(page)).to_have_text("live")
    page.evaluate(WATCH_FRAMES)
    gate.touch()
    expect(log_of(page).locator(".line").last).to_have_text("the end", timeout=120_000)
    print(f"{what:44} longest {page.evaluate('longest'):6.0f}            ms  (150)", flush=True)
    page.close()


def heap(session: CDPSession) -> float:
    """MiB in use once nothing is left to collect."""
    session.send("HeapProfiler.enable")
    session.send("HeapProfiler.collectGarbage")
    return float(session.send("Runtime.getHeapUsage")["usedSize"]) / (1 << 20)


def long_log(site: Site, browser: Browser, folder: Path, scrolled: bool) -> None:
    """An 8-hour log at speed: the heap after a quarter of it, and at its end."""
    gates = [folder / f"{name} {scrolled}" for name in ("begin", "quarter")]
    job = site.python(
        "import os, time\n"
        "def wait(path):\n    while not os.path.exists(path): time.sleep(0.05)\n"
        "def write(count):\n    for n in range(count):\n"
        "        print(n, 'a line of a log, as programs write them')\n"
        "        if n % 100 == 0: time.sleep(0.005)\n"
        f"wait({str(gates[0])!r}); write({LINES_OF_A_DAY // 4}); print('quarter')\n"
        f"wait({str(gates[1])!r}); write({LINES_OF_A_DAY * 3 // 4})\nprint('the end')"
    )
    page = open_page(browser)
    session = page.context.new_cdp_session(page)
    visit(page, f"{site.url}/?job={job.id}")
    expect(state(page)).to_have_text("live")
    gates[0].touch()
    if scrolled:
        expect(log_of(page)).to_contain_text("100 a line")

        def is_paused() -> bool:
            """A flood empties the view now and then; scrolling does nothing in that frame."""
            log_of(page).evaluate("log => { log.scrollTop = 0 }")
            return "paused" in state(page).inner_text()

        wait_until(is_paused)
        new = re.compile("paused, (4[5-9],|50,)")
        expect(state(page)).to_have_text(new, timeout=120_000)
    else:
        expect(log_of(page).get_by_text("quarter", exact=True)).to_be_visible(timeout=120_000)
    before = heap(session)
    gates[1].touch()
    expect(state(page)).to_have_text("ended, exit 0", timeout=300_000)
    after = heap(session)
    count = log_of(page).locator(".line").count()
    how = "while scrolled up" if scrolled else "followed"
    print(f"heap of a long log, {how:24} {before:6.1f} to {after:6.1f} MiB, {count} lines kept")
    page.close()


def idle_requests(site: Site, browser: Browser) -> None:
    page = open_page(browser)
    visit(page, site.url)
    done = time.monotonic() + 30
    before = site.processes.text().count('"GET ')
    wait_until(lambda: time.monotonic() > done, 60)
    asked = 2 * (site.processes.text().count('"GET ') - before)
    print(f"requests a minute of an idle page: {asked}")
    page.close()


def bench_page() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with served(folder / "site", slots=2) as site, chromium() as browser:
            measures: list[Callable[[], None]] = [
                lambda: run_to_first_line(site, browser),
                lambda: cold_link(site, browser),
                lambda: line_to_pane(site, browser, folder),
                lambda: longest_frame(site, browser, folder, "100,000 lines at once", "seq 100000"),
                lambda: longest_frame(site, browser, folder, "2,000 lines of 20 kB", LONG_LINES),
                lambda: long_log(site, browser, folder, scrolled=False),
                lambda: long_log(site, browser, folder, scrolled=True),
                lambda: click_to_lines(site, browser),
                lambda: idle_requests(site, browser),
            ]
            for measure in measures:
                measure()


LONG_LINES = "python3 -c \"for n in range(2000): print(n, 'word ' * 4000)\""
