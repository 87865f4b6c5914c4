"""Followers that read slowly or not at all, on a server that soon drops them."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from conftest import Site, serve_site, wait_until
from web import EVENTS, Stream, admitted, follow, stalled


@dataclass
class SlowFollowers:
    """A follower of a job that writes nothing, and two that have stopped reading; no place is
    free."""

    site: Site
    idle: Stream
    stalled: list[socket.socket]
    job_id: str


@pytest.fixture(scope="module")
def slow_followers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SlowFollowers]:
    base, times = (
        tmp_path_factory.mktemp("slow"),
        ("tailboard.web.server.CLIENT_TIME=2", "tailboard.web.log_follow.KEEPALIVE_INTERVAL=1.1"),
    )
    with serve_site(base, *times, TAILBOARD_FOLLOWERS="3") as site:
        silent, busy = site.job_maker.running(), site.job_maker.running(b"text\n" * 8_000_000)
        idle = follow(site, silent.job.id, **EVENTS)
        path = f"/jobs/{busy.job.id}/logs?follow=1&offset=0"
        with stalled(site, path) as one, stalled(site, path) as two:
            assert site.get(path).status_code == 503
            yield SlowFollowers(site, idle, [one, two], silent.job.id)
        site.job_maker.finish(silent)
        site.job_maker.finish(busy)


def test_an_idle_follower_is_pinged(slow_followers: SlowFollowers) -> None:
    wait_until(lambda: b"\n\n: ping\n\n" in slow_followers.idle.data, 40)


def test_a_follower_that_stops_reading_is_dropped(slow_followers: SlowFollowers) -> None:
    """The server allows a client to read nothing for a limited time, or twice that if it read a
    part at first."""
    path = f"/jobs/{slow_followers.job_id}/logs?follow=1"
    for stream in [admitted(slow_followers.site, path, **EVENTS) for _ in slow_followers.stalled]:
        stream.close()
