"""How long an API that is attacked lets others wait: figures of bench.py."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path

import attacks
import requests
from conftest import serve_site
from figures import each


def slowest(url: str) -> float:
    """The slowest of some answers, in ms."""
    paths = ("/healthz", "/jobs") * 10
    return max(each(1, lambda path=path: requests.get(url + path))[0] for path in paths) * 1e3


def attacked(folder: Path) -> None:
    """How long the others wait while clients do what they should not."""
    folder.mkdir()
    with serve_site(folder) as served:
        ended = served.hand.ended(b"a line of a log\n" * 4_000_000)
        claim = served.hand.running(b"begin\n")
        kinds = {
            "nobody": nullcontext(),
            "900 idle": attacks.idle(served),
            "100 slow headers": attacks.slow_headers(served),
            "4,000 slow headers": attacks.slow_headers(served, 4_000),
            "200 slow bodies": attacks.slow_bodies(served),
            "90 slow downloads": attacks.slow_downloads(served, ended, 90),
            "64 followers": attacks.followers(served, claim.job.id),
        }
        for name, attack in kinds.items():
            with attack:
                took = slowest(served.url)
            print(f"/healthz and /jobs beside {name}: {took:.1f} ms at the most (reach 1,000)")
        with attacks.followers(served, claim.job.id), attacks.idle(served, 1_000):
            took = slowest(served.url)
        print(f"/healthz and /jobs beside 64 followers and 1,000 idle: {took:.1f} ms (reach 1,000)")
        served.hand.finish(claim)
