"""Helpers of the tests that need a browser."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from conftest import need_browser
from playwright.sync_api import (
    Browser,
    BrowserContext,
    Playwright,
    ViewportSize,
    expect,
    sync_playwright,
)

QUIET = "no-first-run disable-background-networking disable-component-update disable-sync"
FLAGS = [f"--{flag}" for flag in f"no-sandbox disable-gpu disable-quic {QUIET}".split()]
FLAGS.append("--host-resolver-rules=MAP elsewhere.test 127.0.0.1")
WIDE = ViewportSize(width=1280, height=800)
expect.set_options(timeout=60_000)  # ms: a machine may be busy


@contextmanager
def chromium() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = launch(playwright)
        yield browser
        browser.close()


def launch(playwright: Playwright) -> Browser:
    return playwright.chromium.launch(executable_path=need_browser(), args=FLAGS)


def open_profile(playwright: Playwright, folder: Path) -> BrowserContext:
    """A Chromium with a profile folder that keeps its cache and its compiled copies of Streamlit's
    files, which saves a third of the processor time per page. Its first, empty page keeps it
    open."""
    return playwright.chromium.launch_persistent_context(
        folder,
        executable_path=need_browser(),
        args=FLAGS,
        viewport=WIDE,
    )
