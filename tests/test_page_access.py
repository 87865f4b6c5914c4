"""Who can open the page, and from where: its WebSocket byte by byte, and in real Chromium."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from http.server import BaseHTTPRequestHandler, SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import ClassVar

import pytest
import requests
from conftest import (
    ROOT,
    address_of_this_machine,
    clean_environment,
    free_port,
    receive,
    wait_until,
)
from page_site import LossyProxy, Site, choose_interval, log_of, state, visit, waiting
from page_socket import HEADER_ID, first_visit, open_socket, read_until, submit
from playwright.sync_api import Locator, Page, Request, expect

from tailboard.page import client as client_module
from tailboard.page import loads, rows, settings, shapes


@pytest.fixture
def site(page_site: Site) -> Site:
    return page_site


@pytest.fixture
def gate(gate_file: Path) -> Path:
    return gate_file


VISIT = re.compile(r"visit-\d+")
REFUSED = "requests from another site's page are refused"
PROXIED = "https://tailboard.example.org"


def names_of_jobs(site: Site) -> set[str]:
    return {str(job.name) for job in site.storage.list()[0]}


def is_accepted(page_url: str, **headers: str) -> bool:
    """Does the page accept this WebSocket? If not, it gives a reason and nothing else."""
    with open_socket(page_url, **headers) as connection:
        status = connection.recv(12)
        if status == b"HTTP/1.1 101":
            return True
        answer = status + receive(connection)
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 403 ") and len(head) < 300, answer
    assert body.decode() == f"{REFUSED}\n"
    return False


# --- Pages of other sites -------------------------------------------------------------------------


def test_a_page_of_another_origin_sees_nothing_and_runs_nothing(site: Site) -> None:
    site.submit("true", "visible only here")
    with open_socket(site.url, Origin=site.url) as connection:
        connection.sendall(first_visit())
        received = read_until(connection, re.compile(rb"visible only here"))
        found = HEADER_ID.search(received)
        assert found
        header_id = found[0].decode()
        connection.sendall(submit(header_id, command="true", name="its own page"))
        wait_until(lambda: "its own page" in names_of_jobs(site))
    other = free_port()
    port = site.url.rpartition(":")[2]
    for origin in (
        *(f"http://localhost:{other}", f"http://127.0.0.1:{other}", f"http://[::1]:{other}"),
        *("null", "http://evil.test", "file://", "http://localhost", "http://127.0.0.1"),
        *(f"http://localhost:{port}", f"{site.url}.evil.test", f"{site.url}0", f"{site.url}/"),
    ):
        with open_socket(site.url, Origin=origin) as connection:
            with suppress(ConnectionError):  # it has closed the connection
                connection.sendall(first_visit())
                connection.sendall(submit(header_id, command="true", name="another page"))
            answer = receive(connection)
        assert answer.startswith(b"HTTP/1.1 403 "), (origin, answer)
        assert answer.endswith(f"\r\n\r\n{REFUSED}\n".encode()) and len(answer) < 400
        for path in ("", "/_stcore/host-config", "/app/static/sign_in.html"):
            got = requests.get(f"{site.url}{path}", headers={"Origin": origin}, timeout=30)
            assert (got.status_code, got.text) == (403, f"{REFUSED}\n")
    assert "another page" not in names_of_jobs(site)


def test_the_pages_own_address_is_the_host_that_the_browser_requested(site: Site) -> None:
    ask = partial(is_accepted, site.url)
    for host in ("localhost:8501", "[::1]:9", "team.example.org", "127.0.0.1"):
        assert ask(Host=host, Origin=f"http://{host}")
        assert ask(Host=host, Origin=f"https://{host}")  # a proxy that does not report its TLS
        assert not ask(Host=host, Origin="http://elsewhere.test")
    host = PROXIED.partition("://")[2]
    assert ask(Host=host, Origin=PROXIED, X_Forwarded_Proto="https", X_Forwarded_For="192.0.2.1")
    assert not ask(Host=host, Origin=f"http://{host}", X_Forwarded_Proto="https")
    assert not ask(Host="127.0.0.1:8501", Origin=PROXIED, X_Forwarded_Proto="https")
    assert ask()  # without an Origin: no browser


def test_a_listed_origin_can_open_the_page_but_is_not_local(site: Site) -> None:
    """A proxy may have sent its own address as Host. Its visitors still do not count as local."""
    listed = "http://127.0.0.1:1"
    with site.serve_dashboard(TAILBOARD_DASHBOARD=f"{listed}/, {PROXIED}") as url:
        assert is_accepted(url, Origin=listed)
        assert is_accepted(url, Origin=url)
        assert not is_accepted(url, Origin="http://127.0.0.1:2")
        assert "Refused a page of 'http://127.0.0.1:2'" in site.processes.text()
        with open_socket(url, Origin=PROXIED) as connection:
            connection.sendall(first_visit())
            received = read_until(connection, re.compile(b"requires a token"))
        assert not HEADER_ID.search(received)


@contextmanager
def serve_http(handler: Callable[..., BaseHTTPRequestHandler]) -> Iterator[str]:
    """Starts a web server on a free port; yields its URL."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_no_site_can_show_the_page_in_a_frame(site: Site, page: Page, tmp_path: Path) -> None:
    (tmp_path / "index.html").write_text(f'<iframe src="{site.url}" title="Prize"></iframe>')
    with serve_http(partial(SimpleHTTPRequestHandler, directory=str(tmp_path))) as elsewhere:
        page.goto(elsewhere)
        framed = page.frames[1]
        expect(page.get_by_title("Prize")).to_be_visible()
        wait_until(lambda: framed.url == "chrome-error://chromewebdata/", describe=lambda: framed)
        assert framed.get_by_role("button").count() == 0
    for path in ("/", "/app/static/sign_in.html", "/_stcore/health", "/nowhere"):
        headers = requests.get(f"{site.url}{path}", timeout=30).headers
        assert headers["X-Frame-Options"] == "DENY"
        assert headers["Content-Security-Policy"] == "frame-ancestors 'none'; frame-src 'none'"
    visit(page, site.url)  # not framed, it is shown
    expect(page.get_by_role("button", name="+ Run")).to_be_visible()


def test_the_page_loads_nothing_from_other_servers(site: Site, page: Page) -> None:
    job = site.submit("echo 'see https://elsewhere.test/x.js'", "only from here")
    loaded: list[str] = []

    def note(request: Request) -> None:
        loaded.append(request.url)

    page.on("request", note)
    try:
        visit(page, f"{site.url}/?job={job.id}")
        expect(log_of(page)).to_contain_text("elsewhere.test")
    finally:
        page.remove_listener("request", note)
    ours = (f"{site.url}/", f"{site.api}/", site.url.replace("http", "ws"), "data:")
    assert loaded and not [url for url in loaded if not url.startswith((*ours, "blob:"))]


# --- The location of a visitor --------------------------------------------------------------------


class Recorder(LossyProxy):
    """Forwards everything to the API, and records what the page reports about its visitors."""

    reported: ClassVar[dict[str, tuple[str | None, str | None]]] = {}  # by the search of the visit

    def do_GET(self) -> None:
        if visit_name := VISIT.search(self.path):
            given = self.headers["X-Forwarded-For"], self.headers["Forwarded"]
            self.reported.setdefault(visit_name[0], given)
        self.pass_on(None)


@pytest.fixture
def watched_page(site: Site) -> Iterator[str]:
    """The URL of a page whose requests to the API are recorded; the page listens on all
    addresses."""
    Recorder.api, Recorder.lost = site.api, set()
    with (
        serve_http(Recorder) as api,
        site.serve_dashboard(api=api, STREAMLIT_SERVER_ADDRESS="0.0.0.0") as url,
    ):
        yield url


def reported_visitor(page_url: str, **headers: str) -> tuple[str | None, str | None]:
    """X-Forwarded-For and Forwarded of the first request that the page makes for a visitor whose
    browser, or whose proxy, sends these headers."""
    visit_name = f"visit-{len(Recorder.reported)}"  # the page may still work for the last visitor
    with open_socket(page_url, **headers) as connection:
        connection.sendall(first_visit(f"q={visit_name}"))
        wait_until(lambda: visit_name in Recorder.reported)
    return Recorder.reported[visit_name]


def test_the_api_is_told_the_true_address_of_a_visitor(watched_page: str) -> None:
    ask = partial(reported_visitor, watched_page)
    unknown = None, "for=unknown"
    assert ask() == (None, None)  # a program of this machine
    assert ask(X_Forwarded_For="192.0.2.7") == ("192.0.2.7", None)
    assert ask(X_Forwarded_For="198.51.100.1, 192.0.2.7") == ("192.0.2.7", None)  # the last hop
    assert ask(X_Forwarded_For="2001:db8::1") == ("2001:db8::1", None)
    for text in ("somebody", "127.0.0.1", ""):
        assert ask(X_Forwarded_For=text) == unknown
    assert ask(Forwarded="for=192.0.2.7") == unknown
    assert ask(Host="tailboard.example.org") == unknown


def test_a_visitor_from_another_machine_is_not_local_whatever_its_host_header(
    watched_page: str,
) -> None:
    address = address_of_this_machine()
    port = watched_page.rpartition(":")[2]
    elsewhere = f"http://{address}:{port}"
    for host in (f"localhost:{port}", f"{address}:{port}"):
        assert reported_visitor(elsewhere, Host=host) == (address, None)


# --- The address of the page ----------------------------------------------------------------------


def test_a_page_is_live_wherever_it_is_served(site: Site, page: Page, gate: Path) -> None:
    """No setting names the page's address: the API learns it from the page's server, through the
    ticket."""
    job = site.submit(f"echo first; {waiting(gate)}; echo last")
    with site.serve_dashboard() as moved:  # `streamlit run dashboard.py --server.port N`
        for url in (site.url, moved, moved.replace("127.0.0.1", "localhost")):
            visit(page, f"{url}/?job={job.id}")
            expect(state(page)).to_have_text("live")
        gate.touch()
        expect(log_of(page)).to_contain_text("last")
        expect(state(page)).to_have_text("succeeded, exit 0")


# --- The footer of a log --------------------------------------------------------------------------


def numbers(page: Page) -> list[str]:
    """The numbers of the lines shown."""
    shown = log_of(page).locator(".line")
    found: list[str] = shown.evaluate_all("lines => lines.map((line) => line.dataset.line)")
    return found


def footer(page: Page) -> Locator:
    return page.locator(".size")


@pytest.mark.usefixtures("unreachable_api")
@pytest.mark.parametrize("times", [False, True])
def test_lines_from_refreshes_are_counted_once(
    site: Site, page: Page, gate: Path, tmp_path: Path, times: bool
) -> None:
    more = tmp_path / "more"
    job = site.submit(
        f"seq 3; printf unfin; {waiting(more)}; echo ished; seq 20; {waiting(gate)}; echo last"
    )
    visit(page, f"{site.url}/?job={job.id}")
    if times:
        page.get_by_label("Times").select_option("Time of day")
    choose_interval(page, "1 s")
    expect(log_of(page)).to_contain_text("unfin")
    expect(footer(page)).to_have_text("4 lines")
    more.touch()
    expect(footer(page)).to_have_text("24 lines")
    gate.touch()
    expect(footer(page)).to_have_text("25 lines")
    expect(state(page)).to_have_text("succeeded, exit 0")
    assert numbers(page) == [str(n) for n in range(1, 26)]


def test_a_line_that_the_stream_completes_is_counted_once(
    site: Site, page: Page, gate: Path
) -> None:
    job = site.submit(f"seq 3; printf unfin; {waiting(gate)}; echo ished; seq 20")
    visit(page, f"{site.url}/?job={job.id}")
    expect(log_of(page)).to_contain_text("unfin")
    expect(footer(page)).to_have_text("4 lines")
    gate.touch()
    expect(state(page)).to_have_text("succeeded, exit 0")
    expect(footer(page)).to_have_text("24 lines")
    assert numbers(page) == [str(n) for n in range(1, 25)]


@pytest.mark.usefixtures("unreachable_api")
def test_the_last_lines_of_a_long_log_are_numbered(site: Site, page: Page) -> None:
    job = site.submit("seq 3000")
    site.wait(job, "succeeded")
    visit(page, f"{site.url}/?job={job.id}")
    expect(footer(page)).to_have_text(re.compile("3,000 of 3,000$"))
    assert numbers(page)[-1] == "3000"


# --- Settings -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "allowed"),
    [
        ("API", "a URL like http://127.0.0.1:5000"),
        ("PUBLIC_API", "a URL like http://127.0.0.1:5000"),
        ("DASHBOARD", "comma-separated origins as browsers send them"),
    ],
)
def test_a_bad_setting_prevents_the_start(name: str, allowed: str) -> None:
    command = [sys.executable, "-m", "streamlit", "run", "dashboard.py", "--server.port=0"]
    env = clean_environment("/nowhere", **{f"TAILBOARD_{name}": "foo"})
    ran = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=100)
    assert ran.returncode == 1
    assert re.fullmatch(rf"TAILBOARD_{name} must be {allowed}.*, not 'foo'\n", ran.stderr)
    assert "Traceback" not in ran.stdout


def test_the_pages_settings_are_parsed(monkeypatch: pytest.MonkeyPatch) -> None:
    for text, meant in (
        ("", "http://127.0.0.1:5000"),
        ("http://127.0.0.1:5001/", "http://127.0.0.1:5001"),
        ("https://tailboard.example.org/api", "https://tailboard.example.org/api"),
        ("http://[::1]:5000", "http://[::1]:5000"),
        *((bad, None) for bad in ("127.0.0.1:5000", "https://", "https://a?x", "https://a b")),
        *((bad, None) for bad in ("https://a@b", "ftp://a", "http://a:x", " http://a")),
    ):
        monkeypatch.setenv("TAILBOARD_API", text)
        if meant is None:
            with pytest.raises(SystemExit):
                settings.url_setting("TAILBOARD_API", "http://127.0.0.1:5000")
        else:
            assert settings.url_setting("TAILBOARD_API", "http://127.0.0.1:5000") == meant
    monkeypatch.setenv("TAILBOARD_DASHBOARD", "https://a.example/, http://[::1]:8501")
    found = settings.origins_setting("TAILBOARD_DASHBOARD")
    assert found == ["https://a.example", "http://[::1]:8501"]


def test_a_session_keeps_only_what_a_jobs_row_shows(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.wait(site.submit("true", "kept"), "succeeded")
    monkeypatch.setattr(settings, "API", site.api)
    client = client_module.ApiClient("", client_module.Visitor(is_remote=False), {})
    listing = loads.load_listing(client, {})
    assert set(listing) == set(shapes.Listing.__annotations__)
    assert set(listing["rows"][0]) == {*rows.ROW_FIELDS, "title", "values"}


def test_a_proxy_that_removes_headers_is_reported_in_one_sentence(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The refresh failed with a KeyError."""
    job = site.submit("echo shown", "behind a proxy")
    site.wait(job, "succeeded")
    LossyProxy.api, LossyProxy.lost = site.api, set()  # it passes on only two headers
    with serve_http(LossyProxy) as url:
        monkeypatch.setattr(settings, "API", url)
        client = client_module.ApiClient("", client_module.Visitor(is_remote=False), {})
        with pytest.raises(client_module.ApiError, match="lacks the header X-Log-Next"):
            loads.load_tail(client, job.id, stamped=False)
