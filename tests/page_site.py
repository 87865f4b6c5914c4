"""A running API, worker and page, a browser to use them, and what the tests of the page share.

pytest loads this file as a plugin. Its fixtures last for the whole session, because a site and a
browser take seconds to start: each job of a test therefore has a name of its own."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
import requests
from axe_playwright_python.base import AXE_SCRIPT
from browser import WIDE, open_profile
from conftest import ROOT, TOKEN, JobMaker, Processes, end_jobs, free_port, need_browser, wait_until
from playwright.sync_api import BrowserContext, Locator, Page, Playwright, expect, sync_playwright

from tailboard.folder.folder_store import FolderStore
from tailboard.job import Job
from tailboard.journal import Outcome
from tailboard.status import Status
from tailboard.values import first_id


class Site:
    """A running API, worker and page, and a browser to use it."""

    def __init__(
        self,
        processes: Processes,
        storage: FolderStore,
        url: str,
        times: Sequence[str],
        **env: str,
    ) -> None:
        """`url` is the page's address."""
        self.processes, self.storage, self.env = processes, storage, env
        self.root, self.url = processes.output.parent, url
        self.pages: dict[str, subprocess.Popen[bytes]] = {}  # by their addresses
        self.api = processes.api(*times, **env)
        self.api_process = processes.started[-1]
        self.start_dashboard(ROOT, self.url)

    def start_dashboard(self, home: Path, url: str, api: str | None = None, **env: str) -> None:
        script = str(home / "dashboard.py")
        port = f"--server.port={url.rpartition(':')[2]}"
        self.pages[url] = self.processes.serve(
            f"{url}/_stcore/health",
            *(sys.executable, "-m", "streamlit", "run", script, port),
            home=home,
            TAILBOARD_API=api or self.api,
            **env,
        )

    @contextmanager
    def serve_dashboard(
        self, home: Path = ROOT, api: str | None = None, **env: str
    ) -> Iterator[str]:
        """Serves a second page: with the files of another folder, another API, or other settings.
        Yields its URL."""
        url = second_page()
        self.start_dashboard(home, url, api, **env)
        try:
            yield url
        finally:
            self.kill_dashboard(url)

    def kill_dashboard(self, url: str) -> None:
        self.pages[url].kill()
        self.pages[url].wait()

    def serving_processes(self) -> list[int]:
        """The children of the API's process, which answer its requests."""
        pid = self.api_process.pid
        return [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]

    @contextmanager
    def silent_api(self) -> Iterator[None]:
        """The API accepts connections, but answers none until the end of the block."""
        serving = self.serving_processes()
        for pid in serving:
            os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            for pid in serving:
                os.kill(pid, signal.SIGCONT)

    def kill_api(self) -> None:
        serving = self.serving_processes()
        self.api_process.kill()
        self.api_process.wait()
        for pid in serving:  # which would continue for a while
            os.kill(pid, signal.SIGKILL)

    def restart_api(self) -> None:
        bind = self.api.removeprefix("http://")
        self.processes.serve(
            f"{self.api}/healthz",
            *(sys.executable, "api.py"),
            TAILBOARD_BIND=bind,
            **self.env,
        )
        self.api_process = self.processes.started[-1]

    def submit(self, command: str | list[str], name: str | None = None, **more: Any) -> Job:
        return self.storage.submit(Job(command=command, name=name, **more))

    def python(self, script: str, name: str | None = None) -> Job:
        return self.submit([sys.executable, "-c", script], name)

    def wait(self, job: Job, status: str) -> None:
        wait_until(lambda: self.storage.get(job.id).status == status)

    def asked(self, path: str) -> int:
        """How often the API was asked for this, with or without a change."""
        return len(re.findall(rf'"GET {path}" (200|304)', self.processes.text()))

    def listed(self) -> int:
        return self.asked("/jobs")


@cache
def second_page() -> str:
    """The address of each page that serves only one test. A browser has loaded its files if another
    test has used it before; to load them takes three seconds of processor time."""
    return new_address()


def new_address() -> str:
    return f"http://127.0.0.1:{free_port()}"


@contextmanager
def served(
    root: Path,
    worker: bool = True,
    slots: int = 8,
    url: str | None = None,
    times: Sequence[str] = (),
    **env: str,
) -> Iterator[Site]:
    """Runs an API (with these times, see Processes.api), a page (at `url`, or at a new address) and
    possibly a worker."""
    root.mkdir(exist_ok=True)
    kept = {k: v for k, v in os.environ.items() if not k.startswith("TAILBOARD_")}
    kept["TAILBOARD_STORAGE"] = str(root / "jobs")
    processes, storage = Processes(root / "output.txt", kept), FolderStore(root / "jobs")
    try:
        if worker:
            processes.worker("--slots", str(slots))
        yield Site(processes, storage, url or new_address(), times, **env)
    finally:
        processes.end()  # first, or the worker would start the queued job
        end_jobs(storage)


@pytest.fixture(scope="session")
def page_site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """One site for all tests that do not change it."""
    need_browser()
    with served(tmp_path_factory.mktemp("site")) as site:
        yield site


class PastJobs:
    """Makes many jobs of yesterday, each newer than the one before. Those that are added together
    are copies of one job, but for their names."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.maker = folder, JobMaker(folder)
        self.begun, self.count = time.time() - 86_400, 0

    def add(self, names: Sequence[str], status: Status = Status.SUCCEEDED, why: str = "") -> None:
        with self.maker.running(name="its name") as claim:
            model = self.maker.log(claim.finish(Outcome(status, reason=why or None)).id).parent
        record, journal = (model / "job.json").read_text(), (model / "journal").read_text()
        for name in names:
            self.count += 1
            job_id = first_id(self.begun + self.count)
            folder = self.folder / status / job_id[:8] / job_id
            folder.mkdir(parents=True)
            (folder / "job.json").write_text(record.replace("its name", name))
            (folder / "journal").write_text(journal)
        shutil.rmtree(model)


@pytest.fixture(scope="session")
def idle_site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A site without a worker: 2,635 jobs ran yesterday, then 205 were cancelled. One is queued."""
    need_browser()
    times = ("api.BULK_TIME=60",)  # to find all jobs even on a busy machine
    with served(tmp_path_factory.mktemp("idle"), worker=False, times=times) as site:
        jobs = PastJobs(Path(site.storage.root))
        jobs.add(["ancient fail.py"], Status.FAILED)
        jobs.add(["backup"] * 278, Status.FAILED)
        jobs.add(["minutely"] * 2100)
        jobs.add([f"daily {n}" for n in range(45)])
        jobs.add(["noisy"] * 210)
        jobs.add(["train"], Status.TIMED_OUT)
        jobs.add([f"old {n:03}" for n in range(205)], Status.CANCELLED, "not needed")
        site.submit("true", "still waiting")
        yield site


ANNAS_TOKEN = "a long secret"
COLOUR_RULES = ["color-contrast", "link-in-text-block"]  # of axe


@pytest.fixture(scope="session")
def locked_site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A site whose API requires a token; anna has a named one."""
    need_browser()
    home = tmp_path_factory.mktemp("locked")
    tokens = home / "tokens"
    tokens.write_text(f"anna {hashlib.sha256(ANNAS_TOKEN.encode()).hexdigest()}\n")
    with served(home, TAILBOARD_TOKEN=TOKEN, TAILBOARD_TOKENS=str(tokens)) as site:
        yield site


Serve = Callable[..., AbstractContextManager[Site]]


@pytest.fixture
def serve(tmp_path: Path) -> Serve:
    """Starts a site for one test."""
    return lambda **options: served(tmp_path / "site", url=second_page(), **options)


@pytest.fixture(scope="session")
def playwright() -> Iterator[Playwright]:
    with sync_playwright() as playwright:
        yield playwright


@pytest.fixture(scope="session")
def shared_context(
    playwright: Playwright, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[BrowserContext]:
    """One browser profile, which has loaded Streamlit's own files once for all tests."""
    context = open_profile(playwright, tmp_path_factory.mktemp("profile"))
    yield context
    context.close()


# Everything except the mark that the browser already has the files of static/.
FORGET = """() => {
    const version = localStorage.getItem("tailboard.version");
    localStorage.clear();
    sessionStorage.clear();
    if (version !== null) {
        localStorage.setItem("tailboard.version", version);
    }
}"""


@pytest.fixture
def context(shared_context: BrowserContext) -> Iterator[BrowserContext]:
    """The shared profile, without the data and pages of earlier tests."""
    yield shared_context
    for page in shared_context.pages[1:]:
        page.evaluate(FORGET)
        page.close()


@pytest.fixture
def page(context: BrowserContext) -> Iterator[Page]:
    """The first tab, which the tests use in turn, since opening another takes a second of processor
    time. Changes by earlier tests are undone."""
    page = context.pages[0]
    yield page
    page.unroute_all(behavior="ignoreErrors")
    if page.url.startswith("http"):
        page.evaluate(FORGET)
    page.goto("about:blank")
    page.set_viewport_size(WIDE)
    page.emulate_media(color_scheme="null", forced_colors="null")


@pytest.fixture
def new_page(context: BrowserContext) -> Page:
    """A second tab, or a tab for a test that changes it permanently, for example by a script that
    runs in each page. To open it takes a second of processor time."""
    return context.new_page()


# Page.route would do this, too, but turns off the browser's cache: a visit then takes three seconds
# more of processor time.
@pytest.fixture
def unreachable_api(page: Page, page_site: Site) -> Iterator[None]:
    """The browser cannot reach the API: only the page's server can."""
    session = page.context.new_cdp_session(page)
    session.send("Network.enable")
    session.send("Network.setBlockedURLs", {"urls": [f"{page_site.api}/*"]})
    yield
    session.detach()


@pytest.fixture
def gate_file(tmp_path: Path) -> Iterator[Path]:
    """A file; jobs that wait for it end once it exists."""
    gate = tmp_path / "gate"
    yield gate
    gate.touch()


def visit(page: Page, url: str) -> None:
    """Opens the page and waits until the list is drawn and accepts clicks and keys."""
    page.goto(url)
    expect(page.locator(".job-list:not([inert])")).to_be_attached()


def log_of(page: Page) -> Locator:
    return page.get_by_role("log")


def row(page: Page, name: str) -> Locator:
    """The link to a job whose row contains this text. The roles of 200 rows take five times as long
    to find, at each of the many looks of `expect`."""
    return page.get_by_role("list", name="Jobs").locator("a", has_text=name)


def state(page: Page) -> Locator:
    """The pill that shows the state of the log."""
    return page.locator(".pill")


def shift_clock(page: Page, milliseconds: int) -> None:
    """Sets the clock of a loaded page ahead."""
    page.evaluate("by => { const now = Date.now; Date.now = () => now() + by }", milliseconds)


def open_palette(page: Page) -> Locator:
    """Opens the palette; returns its field."""
    field = page.get_by_role("combobox", name="Find a job")
    open_with(lambda: page.keyboard.press("Control+k"), field)
    expect(field).to_be_focused()
    return field


def open_with(does: Callable[[], object], opened: Locator) -> None:
    """Does this until `opened` is visible. A page that is still being drawn may close it once
    more, or lose a key."""

    def is_open() -> bool:
        if not opened.is_visible():
            does()
        return opened.is_visible()

    wait_until(is_open)


def choose_interval(page: Page, name: str) -> None:
    choice = page.get_by_role("radio", name=name, exact=True)
    open_with(page.get_by_role("button", name="More", exact=True).click, choice)
    choice.check()
    page.keyboard.press("Escape")


def submitted(page: Page) -> str:
    """The ID of the job that the page has just submitted and shows."""
    expect(page).to_have_url(re.compile(r"job=20"))
    return page.url.rpartition("job=")[2]


def counting(gate: Path) -> str:
    return (
        "import os, time, itertools\n"
        "for n in itertools.count():\n"
        f"    if os.path.exists({str(gate)!r}): break\n"
        "    print('line', n); time.sleep(0.1)\n"
    )


def waiting(gate: Path) -> str:
    return f"while [ ! -e {gate} ]; do sleep 0.05; done"


class LossyProxy(BaseHTTPRequestHandler):
    """Forwards everything to the API, but drops the response to the first POST of each kind."""

    api: str
    lost: set[str]

    def do_GET(self) -> None:
        self.pass_on(None)

    def do_POST(self) -> None:
        self.pass_on(self.rfile.read(int(self.headers["Content-Length"])))

    def pass_on(self, body: bytes | None) -> None:
        headers = {name: value for name, value in self.headers.items() if name != "Host"}
        answer = requests.request(self.command, self.api + self.path, data=body, headers=headers)
        kind = self.path.rpartition("/")[2]
        if body is not None and kind in ("jobs", "rerun", "run") and kind not in self.lost:
            self.lost.add(kind)
            self.close_connection = True
            return
        self.send_response(answer.status_code)
        for name in ("Content-Type", "ETag"):
            if name in answer.headers:
                self.send_header(name, answer.headers[name])
        self.send_header("Content-Length", str(len(answer.content)))
        self.end_headers()
        self.wfile.write(answer.content)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def lossy_page(page_site: Site) -> Iterator[str]:
    """The URL of a page that reaches the API through such a proxy."""
    LossyProxy.api, LossyProxy.lost = page_site.api, set()
    server = ThreadingHTTPServer(("127.0.0.1", 0), LossyProxy)
    thread = Thread(target=server.serve_forever)
    thread.start()
    with page_site.serve_dashboard(ROOT, f"http://127.0.0.1:{server.server_port}") as url:
        yield url
    server.shutdown()
    thread.join()
    server.server_close()


# Only what is reported returns from the browser: to send everything that axe has found to be right
# takes as long as to find it.
RUN_AXE = """async (options) => {
    const {violations} = await axe.run(document, {resultTypes: ["violations"], ...options});
    const serious = violations.filter((found) => ["serious", "critical"].includes(found.impact));
    return serious.map((found) => [found.id, found.nodes.map((node) => node.html)]);
}"""


def check_with_axe(page: Page) -> None:
    """Finds nothing serious in light mode, nor in the colours of dark mode, which is otherwise the
    same."""
    if not page.evaluate("'axe' in window"):
        page.evaluate(AXE_SCRIPT)
    page.emulate_media(color_scheme="light")
    found = page.evaluate(RUN_AXE, {})
    page.emulate_media(color_scheme="dark")
    found += page.evaluate(RUN_AXE, {"runOnly": COLOUR_RULES})
    page.emulate_media(color_scheme="light")
    assert not found
