"""The page in real Chromium, before a real API and a real worker. Nothing here sleeps: Playwright's
`expect` looks again until it is so."""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import requests
from conftest import Processes, free_port, need, wait_until
from playwright.sync_api import Browser, Page, Response, expect, sync_playwright

from storage import FolderStorage, Job, Status

FLAGS = (
    "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync"
)
expect.set_options(timeout=20_000)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=need("chromium"), args=FLAGS.split(), chromium_sandbox=False
        )
        yield browser
        browser.close()


@dataclass
class Site:
    """A running product, and a browser to look at it."""

    url: str
    api: str
    storage: FolderStorage
    processes: Processes
    context: Any

    def open(self, address: str = "", **expected: str) -> Page:
        page: Page = self.context.new_page()
        page.goto(self.url + address)
        return page

    def submit(self, command: str | list[str], **more: Any) -> Job:
        return self.storage.submit(Job(command=command, **more))

    def run(self, script: str, *args: str, **more: Any) -> Job:
        """Submit a Python script."""
        return self.submit([sys.executable, "-c", script, *args], **more)


Start = Callable[..., Site]


@pytest.fixture
def start(browser: Browser, processes: Processes, storage: FolderStorage) -> Iterator[Start]:
    """Start API, worker and page; returns a Site."""
    contexts = []

    def start(
        worker: bool = True, public: str = "", viewport: tuple[int, int] = (1280, 800), **env: str
    ) -> Site:
        port = free_port()
        url = f"http://127.0.0.1:{port}"
        api = processes.api(TAILBOARD_DASHBOARD=url, **env)
        if worker:
            processes.worker()
        command = (
            sys.executable,
            "-m",
            "streamlit",
            "run",
            "dashboard.py",
            f"--server.port={port}",
        )
        processes.serve(
            f"{url}/_stcore/health",
            *command,
            TAILBOARD_API=api,
            TAILBOARD_PUBLIC_API=public or api,
        )
        size = {"width": viewport[0], "height": viewport[1]}
        context = browser.new_context(viewport=size, accept_downloads=True)
        contexts.append(context)
        return Site(url, api, storage, processes, context)

    yield start
    for context in contexts:
        context.close()


@pytest.fixture
def site(start: Start) -> Site:
    return start()


def log_of(page: Page) -> Any:
    return page.get_by_role("log")


def loop(gate: Path) -> str:
    """A script that writes lines until the file `gate` is there."""
    return (
        "import os, time, itertools\n"
        "for n in itertools.count():\n"
        f"    if os.path.exists({str(gate)!r}): break\n"
        "    print('line', n); time.sleep(0.1)\n"
    )


# A job from the form to its end


def test_a_job_run_from_the_form_shows_its_log_untouched_until_it_ends(
    site: Site, tmp_path: Path
) -> None:
    page = site.open()
    script = f"echo first; while [ ! -e {tmp_path}/go ]; do sleep 0.05; done; echo second"
    page.get_by_label("Command").fill(script)
    page.get_by_label("Name", exact=True).fill("my first job")
    page.get_by_label("Timeout (s)").fill("60")
    page.get_by_role("button", name="Run job").click()
    expect(log_of(page)).to_contain_text("first")
    expect(page).to_have_url(re.compile(r"\?job=20"))
    expect(page.get_by_role("link", name="my first job")).to_contain_text("running")
    (job,), _ = site.storage.list()
    assert (job.name, job.command, job.timeout) == ("my first job", script, 60)
    (tmp_path / "go").touch()
    expect(log_of(page)).to_contain_text("second")
    expect(page.get_by_role("link", name="my first job")).to_contain_text("succeeded")
    expect(page.get_by_label("Command")).to_have_value("")


def test_refreshing_stops_when_the_job_shown_has_ended(site: Site, tmp_path: Path) -> None:
    job = site.run(loop(tmp_path / "end"))
    page = site.open(f"/?job={job.id}")
    expect(log_of(page)).to_contain_text("line 3")

    def asked() -> int:
        return site.processes.text().count('"GET /jobs" 200')

    before = asked()
    wait_until(lambda: asked() > before)  # it does refresh
    (tmp_path / "end").touch()
    expect(page.get_by_text("complete")).to_be_visible()
    expect(page.get_by_role("button", name="Delete")).to_be_visible()
    page.get_by_role("button", name="Refresh now").click()
    count = asked()
    page.wait_for_timeout(6_000)  # longer than the interval: that nothing happens takes its time
    assert asked() <= count + 1


def test_typing_and_an_open_panel_survive_refreshes(site: Site, tmp_path: Path) -> None:
    job = site.run(loop(tmp_path / "end"))
    page = site.open(f"/?job={job.id}")
    page.get_by_text("Details").click()
    page.get_by_text("1 s", exact=True).click()
    command = page.get_by_label("Command")
    command.press_sequentially("python tra")
    before = site.processes.text().count('"GET /jobs" ')
    wait_until(lambda: site.processes.text().count('"GET /jobs" ') > before + 2)
    expect(command).to_be_focused()
    command.press_sequentially("in.py")
    expect(command).to_have_value("python train.py")
    expect(page.get_by_text("submitted_at")).to_be_visible()


def test_without_the_stream_the_page_carries_on_by_its_refreshes(
    start: Start, tmp_path: Path
) -> None:
    site = start(public=f"http://127.0.0.1:{free_port()}")
    job = site.run(loop(tmp_path / "end"))
    page = site.open(f"/?job={job.id}")
    expect(log_of(page)).to_contain_text("line 1")
    expect(page.get_by_text("every 5 s")).to_be_visible()
    text = log_of(page).inner_text()
    expect(log_of(page)).not_to_have_text(text)  # within the time of `expect`: four refreshes
    lines = re.findall(r"line (\d+)", log_of(page).inner_text())
    assert [int(n) for n in lines] == list(range(len(lines)))  # none is missing, none comes twice
    (tmp_path / "end").touch()
    expect(page.get_by_text("complete")).to_be_visible()
