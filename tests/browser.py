"""What the tests that need a browser share."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from conftest import need
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


def browser_program() -> str:
    """Chromium without its windows, which takes a sixth less of the processor, where a system has
    it apart; else Chromium. The test is skipped without both, but not in CI."""
    return shutil.which("chromium-headless-shell") or need("chromium")


@contextmanager
def chromium(program: str) -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=FLAGS)
        yield browser
        browser.close()


def open_profile(playwright: Playwright, folder: Path) -> BrowserContext:
    """A Chromium that keeps its cache in a folder, and there also how it compiled Streamlit's own
    files: a page takes a third less of the processor. Its first, empty page keeps it open."""
    return playwright.chromium.launch_persistent_context(
        folder,
        executable_path=browser_program(),
        args=FLAGS,
        viewport=WIDE,
    )
