"""How long an API that is attacked lets others wait: figures of bench.py."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack, nullcontext
from pathlib import Path

import attacks
import requests
from conftest import Claim, Site, serve_site
from figures import each, say_alone

PATIENCE = 60  # seconds to wait for a response

Attack = Callable[[Site, Claim], AbstractContextManager[object]]
ATTACKS: dict[str, Attack] = {
    "nobody": lambda site, claim: nullcontext(),
    "900 idle": lambda site, claim: attacks.idle(site),
    "100 slow headers": lambda site, claim: attacks.slow_headers(site),
    "4,000 slow headers": lambda site, claim: attacks.slow_headers(site, 4_000),
    "200 slow bodies": lambda site, claim: attacks.slow_bodies(site),
    "90 slow downloads": lambda site, claim: download_slowly(site),
    "64 followers": lambda site, claim: attacks.followers(site, claim.job.id),
    "64 followers and 1,000 idle": lambda site, claim: follow_and_idle(site, claim),
}


def download_slowly(site: Site) -> AbstractContextManager[object]:
    ended = site.job_maker.ended(b"a line of a log\n" * 4_000_000)
    return attacks.slow_downloads(site, ended, 90)


def follow_and_idle(site: Site, claim: Claim) -> AbstractContextManager[object]:
    with ExitStack() as stack:
        stack.enter_context(attacks.followers(site, claim.job.id))
        stack.enter_context(attacks.idle(site, 1_000))
        return stack.pop_all()


def slowest(url: str) -> float:
    """The slowest of several responses, in ms."""
    paths = ("/healthz", "/jobs") * 10
    times = (
        each(1, lambda path=path: requests.get(url + path, timeout=PATIENCE)) for path in paths
    )
    return max(seconds for (seconds,) in times) * 1e3


def attacked(folder: Path, name: str) -> None:
    """How long other clients wait while some attack the API."""
    with serve_site(folder) as site:
        claim = site.job_maker.running(b"begin\n")
        with ATTACKS[name](site, claim):
            took = slowest(site.url)
        site.job_maker.finish(claim)
    say_alone(f"slowest /healthz or /jobs beside {name}", took, "ms", "target 1,000")
