"""Slow, idle, vanished and greedy clients: each harms its own connection at most."""

from __future__ import annotations

import asyncio
import json
import os
import platform
import resource
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import attacks
import psutil
import pytest
import requests
from conftest import (
    SHORT_TIMES,
    JobMaker,
    Processes,
    Site,
    free_port,
    receive,
    serve_site,
    wait_until,
)
from flask import Response
from flask.testing import FlaskClient
from web import EVENTS, admitted, is_problem
from werkzeug.exceptions import HTTPException

import api
from tailboard.folder.claim import Claim
from tailboard.web import asgi, connections
from tailboard.web.log_search import searcher
from tailboard.web.search_turns import Searcher, SearchTurns

LONG = 4 << 30  # bytes of a log, mostly a hole, that takes a while to search


@pytest.fixture(scope="module")
def large(site: Site) -> str:
    """A job with a log larger than the kernel's buffers for a connection."""
    return site.job_maker.ended(b"a line of a log\n" * 4_000_000)


@pytest.fixture
def running(site: Site) -> Iterator[Claim]:
    claim = site.job_maker.running(b"begin\n")
    yield claim
    site.job_maker.finish(claim)


def everybody_is_served(site: Site) -> None:
    for path in ("/workers", "/jobs") * 3:
        assert requests.get(site.url + path, timeout=10).status_code == 200


def a_follower_is_fed(site: Site, claim: Claim, word: bytes) -> None:
    stream = admitted(site, f"/jobs/{claim.job.id}/logs?follow=1", **EVENTS)
    site.job_maker.write(claim, word + b"\n")
    stream.has(word)
    stream.close()


# --- Attacks --------------------------------------------------------------------------------------

ATTACKS: dict[str, Callable[[Site, str], AbstractContextManager[Any]]] = {
    "none": lambda site, job_id: nullcontext(),
    "900 idle": lambda site, job_id: attacks.idle(site),
    "100 slow headers": lambda site, job_id: attacks.slow_headers(site),
    "200 slow bodies": lambda site, job_id: attacks.slow_bodies(site),
    "150 slow downloads": lambda site, job_id: attacks.slow_downloads(site, job_id),
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_all_other_clients_are_served(site: Site, large: str, running: Claim, attack: str) -> None:
    with ATTACKS[attack](site, large):
        everybody_is_served(site)
        a_follower_is_fed(site, running, attack.encode())


def read_until(client: socket.socket, word: bytes) -> None:
    data = b""
    while word not in data:
        piece = client.recv(1 << 16)
        assert piece, "the stream has ended"
        data += piece


def test_64_followers_get_their_logs_despite_1000_idle_clients(site: Site, running: Claim) -> None:
    with attacks.followers(site, running.job.id) as clients, attacks.idle(site, 1_000):
        everybody_is_served(site)
        site.job_maker.write(running, b"for all\n")
        for client in clients:
            read_until(client, b"for all")
    admitted(site, f"/jobs/{running.job.id}/logs?follow=1").close()


@pytest.fixture(scope="module")
def narrow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """An API with few connections, which does not close any because its client is slow."""
    times = (
        "tailboard.web.server.MAX_CONNECTIONS=120",
        "tailboard.web.server.HEADER_TIME=600",
        "tailboard.web.bodies.BODY_TIME=600",
    )
    with serve_site(tmp_path_factory.mktemp("narrow"), *times) as site:
        yield site


BODY_BEGUN = attacks.HEADER.replace(b"GET", b"POST") + b"x\r\nContent-Length: 9\r\n\r\n{"


@pytest.mark.parametrize(
    ("data", "addresses"),
    [
        pytest.param(attacks.HEADER, 1, id="heads"),
        pytest.param(attacks.HEADER, 3, id="heads from three addresses"),
        pytest.param(BODY_BEGUN, 1, id="bodies"),
        pytest.param(b"", 2, id="idle"),
    ],
)
def test_clients_that_never_finish_a_request_do_not_take_all_connections(
    narrow: Site, data: bytes, addresses: int
) -> None:
    claim = narrow.job_maker.running(b"begin\n")
    sources = [f"127.0.0.{2 + number}" for number in range(addresses)]
    with requests.Session() as honest, follow_from(narrow, claim.job.id) as follower:
        assert honest.get(f"{narrow.url}/workers").status_code == 200
        with attacks.connections_from(narrow, sources, 300, data):
            everybody_is_served(narrow)
            wait_until(lambda: "that were waiting for their clients" in narrow.processes.text())
            assert honest.get(f"{narrow.url}/workers", timeout=10).status_code == 200
            everybody_is_served(narrow)
            narrow.job_maker.write(claim, b"more\n")
            read_until(follower, b"more\n")
    narrow.job_maker.finish(claim)


def test_followers_are_kept_when_idle_connections_are_closed(narrow: Site) -> None:
    """Even though the follower is the oldest connection of the busiest address."""
    claim = narrow.job_maker.running(b"begin\n")
    with follow_from(narrow, claim.job.id) as follower, attacks.connections(narrow, 300):
        everybody_is_served(narrow)
        narrow.job_maker.write(claim, b"more\n")
        read_until(follower, b"more\n")
    narrow.job_maker.finish(claim)


def follow_from(site: Site, job_id: str) -> socket.socket:
    follower = site.connect(
        f"GET /jobs/{job_id}/logs?follow=1 HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
    )
    read_until(follower, b"begin\n")
    return follower


def test_the_oldest_connections_of_the_busiest_address_are_closed_first() -> None:
    peers = [("a", 1), ("b", 1), ("a", 2), ("c", 1), ("b", 2), ("a", 3)]
    assert connections.excess_peers(peers, 0) == []
    assert connections.excess_peers(peers, 1) == [("a", 1)]
    assert set(connections.excess_peers(peers, 3)) == {("a", 1), ("a", 2), ("b", 1)}
    assert len(connections.excess_peers(peers, 9)) == 6


def test_endless_request_bodies_are_limited(site: Site) -> None:
    """The server keeps the part of each body that has arrived, until its time is up."""
    head = b"POST /jobs HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    body = b"Content-Length: 1048576\r\n\r\n" + b" " * 1_000_000
    with attacks.connections(site, 80, head + body) as clients:
        everybody_is_served(site)
        is_problem(site.post("/jobs", {"command": 5}), 400, "command")  # a small one is accepted
        answers = [receive(client) for client in clients]
    refused = [answer for answer in answers if answer.startswith(b"HTTP/1.1 503 ")]
    assert 0 < len(refused) < len(answers)
    assert b"retry-after" in refused[0].lower() and b"too many large request bodies" in refused[0]


def test_a_response_that_fails_is_our_own_500(tmp_path: Path) -> None:
    app = api.create_app({"STORAGE": tmp_path / "jobs"})
    app.add_url_rule("/broken", view_func=lambda: Response(map(int, ["no number"])))
    scope = {"type": "http", "method": "GET", "raw_path": b"/broken", "query_string": b""}
    scope |= {"http_version": "1.1", "scheme": "http", "headers": [(b"host", b"localhost")]}
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.disconnect"}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    ends = {"client": ("127.0.0.1", 1), "server": ("127.0.0.1", 2)}
    served = asgi.FlaskOverAsgi(app)(scope | ends, receive, send)
    with ThreadPoolExecutor(1) as pool:  # Playwright has a loop in the main thread
        pool.submit(asyncio.run, served).result()
    assert [message.get("status") for message in sent] == [500, None]
    assert json.loads(sent[1]["body"])["detail"].startswith("the API failed to answer")
    assert dict(sent[0]["headers"])[b"content-type"] == b"application/problem+json"


# --- Descriptors ----------------------------------------------------------------------------------


def start_with_limit(processes: Processes, folder: Path, limit: str) -> tuple[str, psutil.Process]:
    """Starts a server over the folder, from a shell with this limit on descriptors."""
    url = f"http://127.0.0.1:{free_port()}"
    start = f"{sys.executable} -m tests.programs.tuned_api {' '.join(SHORT_TIMES)}"
    settings = {"TAILBOARD_BIND": url.removeprefix("http://"), "TAILBOARD_STORAGE": str(folder)}
    command = ("sh", "-c", f"ulimit {limit}; exec {start}")
    process = processes.serve(f"{url}/healthz", *command, **settings)
    return url, psutil.Process(process.pid)


def test_the_soft_limit_on_descriptors_is_raised(processes: Processes, folder: Path) -> None:
    _, process = start_with_limit(processes, folder, "-Sn 256")
    for part in (process, *process.children()):
        soft, hard = part.rlimit(psutil.RLIMIT_NOFILE)
        assert soft == hard == resource.getrlimit(resource.RLIMIT_NOFILE)[1]


def test_a_server_with_few_descriptors_survives_many_clients(
    site: Site, running: Claim, processes: Processes
) -> None:
    url, process = start_with_limit(processes, site.folder, "-n 1024")
    few = Site(url, site.folder, site.job_maker, processes, {})
    with attacks.followers(few, running.job.id) as clients, attacks.idle(few, 1_100):
        site.job_maker.write(running, b"for all\n")
        for client in clients:
            read_until(client, b"for all")
        # Waiting connections are accepted as idle ones are closed.
        wait_until(lambda: requests.get(f"{url}/workers", timeout=60).status_code == 200, 60)
    assert process.is_running() and len(process.children()) == 1
    everybody_is_served(few)


def test_too_few_descriptors_prevent_the_start_with_one_sentence(processes: Processes) -> None:
    command = ("sh", "-c", f"ulimit -n 128; exec {sys.executable} api.py")
    process = processes.start(*command, TAILBOARD_BIND=f"127.0.0.1:{free_port()}")
    assert process.wait(60) == 1
    reported = (
        "api: TAILBOARD_FOLLOWERS=64 needs 500 open files, and the limit is 128 (ulimit -n)\n"
    )
    assert reported in processes.text()


# --- Start and end --------------------------------------------------------------------------------


def test_sigterm_ends_a_server_with_64_followers(tmp_path: Path) -> None:
    with serve_site(tmp_path) as own:
        claim = own.job_maker.running(b"begin\n")
        server = psutil.Process(own.processes.started[-1].pid)
        parts = [server, *server.children()]
        with attacks.followers(own, claim.job.id):
            server.terminate()
            assert own.processes.started[-1].wait(30) == 0
            gone, alive = psutil.wait_procs(parts, 30)
        own.job_maker.finish(claim)
    assert not alive and len(gone) == 2


def test_a_killed_server_leaves_nothing_behind(tmp_path: Path) -> None:
    with serve_site(tmp_path) as own:
        server = psutil.Process(own.processes.started[-1].pid)
        [serving] = server.children()
        os.kill(server.pid, signal.SIGKILL)
        own.processes.started[-1].wait(30)
        assert psutil.wait_procs([serving], 30)[1] == []
        bind = own.url.removeprefix("http://")
        own.processes.serve(f"{own.url}/healthz", sys.executable, "api.py", TAILBOARD_BIND=bind)


# --- Memory ---------------------------------------------------------------------------------------


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="it has heaps of each thread")
def test_threads_share_heaps(site: Site) -> None:
    """Otherwise each thread keeps the memory of the longest list that it ever made."""
    with ThreadPoolExecutor(40) as pool:
        assert set(pool.map(lambda _: site.get("/metrics").status_code, range(200))) == {200}
    [serving] = psutil.Process(site.processes.started[0].pid).children()
    assert serving.num_threads() > 5
    assert len(heaps_of_threads(serving.pid)) <= 2


def heaps_of_threads(pid: int) -> list[str]:
    """The mappings that glibc reserves for additional heaps: the unused part of 64 MiB."""
    found = []
    for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
        begin, end = (int(part, 16) for part in line.split()[0].split("-"))
        if line.split()[1] == "---p" and end - begin > 32 << 20 and end % (64 << 20) == 0:
            found.append(line)
    return found


# --- Searches -------------------------------------------------------------------------------------


def test_long_searches_take_turns(locked: Site) -> None:
    """This includes searches of one client: later ones wait for earlier ones and get their
    responses."""
    job_id, short = locked.job_maker.ended(b"begin\n"), locked.job_maker.ended(b"needle\n")
    os.truncate(locked.job_maker.log(job_id), LONG)

    def search(client: str) -> int:
        headers = {"X-Forwarded-For": client}
        return locked.get(f"/jobs/{job_id}/logs?q=needle", headers=headers).status_code

    with ThreadPoolExecutor(4) as pool:
        answers = [pool.submit(search, "192.0.2.1") for _ in range(4)]
        for _ in range(5):  # a short log needs no turn
            found = locked.get(f"/jobs/{short}/logs?q=needle").json()["matches"]
            assert [match["text"] for match in found] == ["needle"]
        assert [answer.result() for answer in answers] == [200] * 4


def test_a_log_larger_than_a_mebibyte_is_searched_in_turn(
    client: FlaskClient, job_maker: JobMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tailboard.web.search_turns.TURN_WAIT", 0)
    long, short = job_maker.ended(b"a" * (1 << 20) + b"\n"), job_maker.ended(b"a" * (1 << 20))
    turns = client.application.extensions["tailboard"].searches
    with turns.turn(Searcher("one", "one")), turns.turn(Searcher("two", "two")):
        for query in (f"/jobs/{long}/logs?q=a", f"/jobs/{long}/logs?q=a&count=1", "/logs?q=a"):
            answer = client.get(query)
            is_problem(answer, 503, "too many log searches are running")
            assert int(answer.headers["Retry-After"]) > 0
        assert client.get(f"/jobs/{short}/logs?q=a").status_code == 200
    assert client.get(f"/jobs/{long}/logs?q=a").status_code == 200


class Searches:
    """Threads that each ask for a turn in order, and end on request."""

    def __init__(self, pool: ThreadPoolExecutor) -> None:
        self.pool, self.turns = pool, SearchTurns()
        self.began: list[str] = []
        self.refused: list[str] = []
        self.over: dict[str, threading.Event] = {}

    def begin(self, name: str, searcher: Searcher) -> None:
        over = self.over[name] = threading.Event()

        def run() -> None:
            try:
                with self.turns.turn(searcher):
                    self.began.append(name)
                    over.wait(60)
            except HTTPException:
                self.refused.append(name)

        known = self.count()
        self.pool.submit(run)
        wait_until(lambda: self.count() > known)

    def count(self) -> int:
        return len(self.turns.running) + len(self.turns.waiting) + len(self.refused)

    def end(self, name: str) -> None:
        known = len(self.began)
        self.over[name].set()
        wait_until(lambda: len(self.began) > known or not self.turns.waiting)

    def end_all(self) -> None:
        for over in self.over.values():
            over.set()


@pytest.fixture
def searches(monkeypatch: pytest.MonkeyPatch) -> Iterator[Searches]:
    monkeypatch.setattr("tailboard.web.search_turns.TURN_WAIT", 60)
    with ThreadPoolExecutor(30) as pool:
        searches = Searches(pool)
        yield searches
        searches.end_all()


def test_a_client_with_many_searches_delays_another_by_at_most_one(searches: Searches) -> None:
    greedy, other = Searcher("127.0.0.1", "192.0.2.1"), Searcher("127.0.0.1", "192.0.2.2")
    for number in range(5):
        searches.begin(f"greedy {number}", greedy)
    searches.begin("other", other)
    assert searches.began == ["greedy 0", "greedy 1"]
    searches.end("greedy 0")
    assert searches.began[2:] == ["other"]
    searches.end("greedy 1")
    assert searches.began[3:] == ["greedy 2"]


def test_a_client_that_invents_visitors_gets_no_extra_turns(searches: Searches) -> None:
    for number in range(6):
        searches.begin(f"made up {number}", Searcher("192.0.2.1", f"10.0.0.{number}"))
    searches.begin("other", Searcher("192.0.2.2", "192.0.2.2"))
    searches.end("made up 0")
    assert searches.began[2:] == ["other"]


def test_only_the_excess_searches_of_one_client_are_refused(
    searches: Searches, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tailboard.web.search_turns.MAX_WAITING_SEARCHES", 3)
    for number in range(5):
        searches.begin(f"greedy {number}", Searcher("192.0.2.1", "192.0.2.1"))
    assert searches.refused == []
    searches.begin("other", Searcher("192.0.2.2", "192.0.2.2"))
    wait_until(lambda: searches.refused == ["greedy 4"], describe=lambda: searches.refused)
    searches.begin("greedy 5", Searcher("192.0.2.1", "192.0.2.1"))
    wait_until(lambda: searches.refused == ["greedy 4", "greedy 5"])


def test_the_last_proxy_hop_identifies_the_visitor(client: FlaskClient) -> None:
    """The client may have made up all others."""

    def asked(headers: dict[str, str]) -> Searcher:
        with client.application.test_request_context("/logs", headers=headers):
            return searcher()

    assert asked({"X-Forwarded-For": "1, 192.0.2.7"}) == asked({"X-Forwarded-For": "2,192.0.2.7"})
    assert asked({"X-Forwarded-For": "192.0.2.7"}).visitor == "192.0.2.7"
    assert asked({"X-Forwarded-For": "1"}) == asked({"X-Forwarded-For": "2"}) == asked({})
    assert asked({}).peer == asked({"X-Forwarded-For": "192.0.2.7"}).peer
