"""What the tests that need a browser share."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from conftest import need
from playwright.sync_api import Browser, expect, sync_playwright

QUIET = "no-first-run disable-background-networking disable-component-update disable-sync"
FLAGS = [f"--{flag}" for flag in f"no-sandbox disable-gpu disable-quic {QUIET}".split()]
FLAGS.append("--host-resolver-rules=MAP elsewhere.test 127.0.0.1")
expect.set_options(timeout=20_000)  # ms


@contextmanager
def chromium() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=need("chromium"), args=FLAGS)
        yield browser
        browser.close()
