"""What each role sees on the page and can do there, in real Chromium."""

from __future__ import annotations

import hashlib
import json
import re
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests
from conftest import (
    ROOT,
    address_of_this_machine,
    clean_environment,
    need_browser,
    wait_until,
)
from page_site import Site, choose_interval, log_of, open_palette, open_with, served, waiting
from page_socket import first_visit, open_socket, read_until, trigger
from playwright.sync_api import Page, expect
from signing_proxy import SigningProxy

from tailboard.page.client import ApiClient, Visitor
from tailboard.proxy_headers import ProxyUser

TOKENS = {name: f"{name} has a long secret" for name in ("anna", "ben", "wall")}
ROLES = {"anna": "all", "ben": "run", "wall": "read"}
PROOF = {"X-Tailboard-Proxy": "proven-by-the-proxy"}
PROXY_SETTINGS = {
    "TAILBOARD_USER_HEADER": "Remote-User",
    "TAILBOARD_GROUP_HEADER": "Remote-Groups",
    "TAILBOARD_PROXY_SECRET": PROOF["X-Tailboard-Proxy"],
}
# The names of all buttons that are visible, whichever component has drawn them.
VISIBLE_BUTTONS = """() => {
    const nodes = [];
    const collect = (root) => {
        for (const node of root.querySelectorAll("*")) {
            nodes.push(node);
            if (node.shadowRoot) collect(node.shadowRoot);
        }
    };
    collect(document);
    const buttons = nodes.filter((node) => node.matches("button") && node.checkVisibility());
    return buttons.map((node) => node.ariaLabel ?? node.textContent.trim().replace(/\\s+/g, " "));
}"""


class RolesSite:
    """A site with a token of each role, and jobs that differ in what a role may do with them."""

    def __init__(self, site: Site) -> None:
        self.site, self.gate = site, site.root / "gate"
        self.save("deploy", command=waiting(self.gate))
        self.save("flaky", command="exit 3")
        self.save("greet", command='echo "hello $WHO"', params=[{"name": "WHO"}])
        self.save("nightly", command="true", cron="@daily", paused=True)
        self.send("PUT", "/queues/slow/pause")
        self.submit(command="true", name="stuck", queue="slow")
        self.ids = {
            "broken": self.submit(command="exit 4", name="broken"),
            "by hand": self.submit(command=waiting(self.gate), name="by hand"),
            "deploy": self.send("POST", "/saved/deploy/run")["id"],
            "flaky": self.send("POST", "/saved/flaky/run")["id"],
        }
        statuses = {"broken": "failed", "by hand": "running", "deploy": "running"}
        statuses |= {"flaky": "failed"}
        wait_until(
            lambda: {name: self.status(job_id) for name, job_id in self.ids.items()} == statuses
        )

    def send(self, method: str, path: str, **body: Any) -> Any:
        headers = {"Authorization": f"Bearer {TOKENS['anna']}"}
        answer = requests.request(
            method, self.site.api + path, json=body, headers=headers, timeout=30
        )
        answer.raise_for_status()
        return answer.json() if answer.content else None

    def save(self, name: str, **command: Any) -> None:
        self.send("PUT", f"/saved/{name}", **command)

    def submit(self, **job: Any) -> str:
        return str(self.send("POST", "/jobs", **job)["id"])

    def status(self, job_id: str) -> str:
        return str(self.site.storage.get(job_id).status)

    def set_role(self, name: str, role: str) -> None:
        write_tokens(self.site.root / "tokens", ROLES | {name: role})


def write_tokens(path: Path, roles: dict[str, str]) -> None:
    hashes = {name: hashlib.sha256(token.encode()).hexdigest() for name, token in TOKENS.items()}
    lines = [f"{name} {hashes[name]} {role}\n" for name, role in roles.items()]
    path.write_text("".join(lines))


@pytest.fixture(scope="module")
def roles_site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RolesSite]:
    need_browser()
    home = tmp_path_factory.mktemp("roles")
    write_tokens(home / "tokens", ROLES)
    (home / "users").write_text("anna all\n@ops run\n")
    settings = {"TAILBOARD_TOKENS": str(home / "tokens"), "TAILBOARD_USERS": str(home / "users")}
    with served(home, **settings, **PROXY_SETTINGS) as site:
        found = RolesSite(site)
        yield found
        found.gate.touch()


def visible_buttons(page: Page) -> set[str]:
    return set(page.evaluate(VISIBLE_BUTTONS)) - VARYING


@pytest.fixture
def sign_in(roles_site: RolesSite, page: Page) -> Callable[[str], None]:
    def sign_in(name: str) -> None:
        page.goto(roles_site.site.url)
        page.get_by_label("Token", exact=True).fill(TOKENS[name])
        page.get_by_label("Keep me signed in").uncheck()
        page.get_by_role("button", name="Sign in").click()
        expect(page.locator(".job-list:not([inert])")).to_be_attached()

    return sign_in


GO = """async (search) => {
    const { page } = await import(new URL("app/static/page_state.js", document.baseURI));
    page.followLink({ search });
}"""
ASK = """async ([errand, details]) => {
    const { ask } = await import(new URL("app/static/errands.js", document.baseURI));
    return await ask(errand, details);
}"""
SIGN_IN = """async ([name, value]) => {
    const nodes = [...document.querySelectorAll("*")].map((node) => node.shadowRoot ?? node);
    const find = (root) => [...root.querySelectorAll("*")].find((node) => node.signIn);
    const host = nodes.map((node) => (node.signIn ? node : find(node))).find(Boolean);
    host.signIn.component.setTriggerValue(name, value);
}"""
ACT = """async ([name, value]) => {
    const { page } = await import(new URL("app/static/page_state.js", document.baseURI));
    page.act(name, value);
}"""


def go(page: Page, search: str) -> None:
    """Goes to an address within the page: to load it again would need the token again."""
    page.evaluate(GO, search)


def open_job(page: Page, job_id: str) -> None:
    """Opens a job and the menu of its log."""
    go(page, f"?job={job_id}")
    expect(page.locator(".show-details")).to_be_visible()
    expect(page.locator(".compare-success")).to_be_attached()
    open_actions(page)


def open_actions(page: Page) -> None:
    """Opens the menu of the log, if it is closed: the page closes it if the log's head changes."""
    more = page.get_by_role("button", name="More actions")
    open_with(more.click, page.get_by_role("link", name="Download the whole log"))


def open_menu(page: Page) -> None:
    page.get_by_role("button", name="More", exact=True).click()
    expect(page.locator(".queue-list")).to_contain_text("slow")


# --- Which buttons each role sees -----------------------------------------------------------------

# These read, or belong to the page itself, or to this browser. Everybody sees them.
ALWAYS = {"More", "Notifications", "slow paused"}
HOME = ALWAYS | {"Dismiss all", "Dismiss broken", "Dismiss flaky", "Dismiss nightly"}
MENU = HOME | {"Command palette Ctrl+K", "Refresh now", "Keyboard shortcuts ?", "Sign out"}
LIST = HOME | {"Search all logs for “broken”"}
JOB = {
    *(ALWAYS | {"Close", "Copy", "Show the whole command", "Details", "More actions"}),
    *("Copy a link to this job", "Compare with the last success"),
    *("Match case", "Regular expression", "Start", "End"),
}
VARYING = {"", "Notify me"}  # a button that is only a sign, and one of running jobs

RUN_HOME = {"+ Run", "Cancel deploy", "Run again flaky", "Run flaky"}
ALL_HOME = RUN_HOME | {
    *("Cancel by hand", "Run again broken", "Resume the queue slow", "Resume schedule nightly")
}
QUEUES = {"Limit of default", "Limit of slow", "Pause default", "Resume slow"}
ALL_JOB = {"+ Run", "Run again", "Edit and run…", "Save command…", "Run a job after this…"}
VIEWS: dict[str, dict[str, set[str]]] = {
    "wall": {
        **{"home": HOME, "menu": MENU, "list": LIST},
        **{"by hand": JOB, "broken": JOB, "deploy": JOB, "flaky": JOB},
    },
    "ben": {
        **{"home": HOME | RUN_HOME, "menu": MENU | RUN_HOME, "list": LIST | RUN_HOME},
        **{"by hand": JOB | {"+ Run"}, "broken": JOB | {"+ Run"}},
        **{"deploy": JOB | {"+ Run", "Cancel", "Run again"}, "flaky": JOB | {"+ Run", "Run again"}},
    },
    "anna": {
        **{"home": HOME | ALL_HOME, "menu": MENU | ALL_HOME | QUEUES},
        **{"list": LIST | ALL_HOME | {"All matching jobs"}},
        **{"by hand": JOB | ALL_JOB | {"Cancel"}, "broken": JOB | ALL_JOB | {"Delete"}},
        **{"deploy": JOB | ALL_JOB | {"Cancel"}, "flaky": JOB | ALL_JOB | {"Delete"}},
    },
}


def check_buttons(
    page: Page, wanted: set[str], prepare: Callable[[Page], None] = lambda page: None
) -> None:
    """Waits until exactly these are visible: some arrive with the details of the job."""

    def are_right() -> bool:
        prepare(page)
        return visible_buttons(page) == wanted

    wait_until(are_right, 60, lambda: visible_buttons(page) ^ wanted)


@pytest.mark.parametrize("name", VIEWS)
def test_each_role_sees_exactly_the_buttons_that_it_may_use(
    roles_site: RolesSite, sign_in: Callable[[str], None], page: Page, name: str
) -> None:
    wanted = VIEWS[name]
    sign_in(name)
    check_buttons(page, wanted["home"])
    open_menu(page)
    check_buttons(page, wanted["menu"])
    expect(page.locator(".account-name")).to_have_text(ACCOUNTS[name])
    page.keyboard.press("Escape")
    go(page, "?q=broken")
    check_buttons(page, wanted["list"])
    for job in ("by hand", "broken", "deploy", "flaky"):
        open_job(page, roles_site.ids[job])
        check_buttons(page, wanted[job], open_actions)
        page.keyboard.press("Escape")


ACCOUNTS = {
    "wall": "wall · read only",
    "ben": "ben · may run saved commands",
    "anna": "Signed in as anna",
}


def test_a_role_that_changes_shows_at_the_next_refresh(
    roles_site: RolesSite, sign_in: Callable[[str], None], page: Page
) -> None:
    sign_in("wall")
    check_buttons(page, HOME)
    choose_interval(page, "1 s")
    roles_site.set_role("wall", "run")
    check_buttons(page, HOME | RUN_HOME)
    page.keyboard.press("c")
    expect(page.get_by_role("button", name="Run", exact=True)).to_be_visible()
    roles_site.set_role("wall", "read")
    expect(page.get_by_role("button", name="Run", exact=True)).to_be_hidden()
    expect(page.get_by_role("button", name="Close")).to_be_visible()
    page.keyboard.press("Escape")
    check_buttons(page, HOME)


# --- Keys, the palette, and direct requests -------------------------------------------------------


def test_keys_and_the_palette_offer_a_reader_nothing_that_acts(
    roles_site: RolesSite, sign_in: Callable[[str], None], page: Page
) -> None:
    sign_in("wall")
    check_buttons(page, HOME)
    open_job(page, roles_site.ids["deploy"])
    page.keyboard.press("Escape")
    for key in "crx":
        page.keyboard.press(key)
    page.keyboard.press("d")  # has been handled after those
    expect(page.get_by_role("region", name="Details")).to_be_visible()
    expect(page.get_by_role("group", name="Confirm")).to_be_hidden()
    expect(page.get_by_role("dialog")).to_have_count(0)
    page.keyboard.press("?")
    sheet = page.get_by_role("dialog", name="Keyboard shortcuts")
    expect(sheet.get_by_text("search jobs")).to_be_visible()
    for does in ("run a job", "run the job again", "cancel the job", "run what the form"):
        expect(sheet.get_by_text(does)).to_have_count(0)
    page.keyboard.press("Escape")
    options = page.get_by_role("listbox", name="Results")
    field = open_palette(page)
    for text in ("run", "pause", "resume", "cancel"):
        field.fill(text)
        acting = re.compile("Run (a job|deploy|the job)|(Pause|Resume) queue|Cancel the job")
        expect(options).not_to_contain_text(acting)
    expect(field).to_be_visible()


def test_the_role_run_gets_the_saved_commands_and_no_run_form(
    roles_site: RolesSite, sign_in: Callable[[str], None], page: Page
) -> None:
    sign_in("ben")
    sheet = page.get_by_role("dialog", name="Keyboard shortcuts")
    open_with(lambda: page.keyboard.press("?"), sheet.get_by_text("cancel the job"))
    page.keyboard.press("Escape")
    open_job(page, roles_site.ids["by hand"])
    page.keyboard.press("Escape")
    page.keyboard.press("x")  # it did not come from a saved command
    page.keyboard.press("c")
    expect(page.get_by_role("button", name="Run", exact=True)).to_be_visible()
    expect(page.get_by_role("group", name="Confirm")).to_be_hidden()
    expect(page.get_by_label("Command", exact=True)).to_be_hidden()
    for button in ("+ New command", "Edit…", "Delete", "Pause schedule", "Save…"):
        expect(page.get_by_role("button", name=button, exact=True)).to_have_count(0)
    page.get_by_role("button", name="greet").click()
    page.get_by_role("textbox", name="WHO").fill("Ben")
    page.get_by_role("button", name="Run", exact=True).click()
    expect(log_of(page)).to_contain_text("hello Ben")
    wait_until(lambda: roles_site.status(page.url.rpartition("job=")[2]) == "succeeded")
    expect(page.get_by_role("button", name="Run again")).to_be_visible()


def test_a_request_that_the_role_forbids_gets_a_sentence_and_keeps_the_visitor_signed_in(
    roles_site: RolesSite, sign_in: Callable[[str], None], page: Page
) -> None:
    """The page's server does not rely on hidden buttons."""
    by_hand, broken = roles_site.ids["by hand"], roles_site.ids["broken"]
    sign_in("wall")
    forbidden = re.compile("needs the role all.*; this token has the role read")
    for errand, details in {
        "run": {"command": "true", "name": "smuggled", "key": "k"},
        "pause": {"queue": "default", "why": ""},
        "resume": {"queue": "slow"},
        "limit": {"queue": "default", "limit": "1"},
        "urgent": {"job": by_hand, "urgent": True},
    }.items():
        answer = page.evaluate(ASK, [errand, details])
        assert forbidden.search(answer["error"]) and not answer["may_pass"], answer
    change = page.evaluate(ASK, ["change", {"to": "delete", "ids": [broken]}])
    assert change["tried"] == 1 and forbidden.search(change["declined"][0])
    toast = page.locator(".toasts")
    page.evaluate(ACT, ["cancel", by_hand])
    expect(toast).to_contain_text("needs the role run")
    page.evaluate(ACT, ["submit", {"values": {"command": "true", "name": "smuggled"}}])
    expect(toast).to_contain_text(forbidden)
    assert roles_site.status(by_hand) == "running" and roles_site.status(broken) == "failed"
    assert "smuggled" not in {job.name for job in roles_site.site.storage.list()[0]}
    expect(page.get_by_label("Token", exact=True)).to_be_hidden()


# --- Behind a proxy that signs people in ----------------------------------------------------------


@pytest.fixture(scope="module")
def proxied_page(roles_site: RolesSite) -> Iterator[str]:
    """The URL of a page whose visitors a proxy signs in."""
    everywhere = {"STREAMLIT_SERVER_ADDRESS": "0.0.0.0"}
    with roles_site.site.serve_dashboard(**PROXY_SETTINGS, **everywhere) as url:
        yield url


@pytest.fixture
def proxy(proxied_page: str) -> Iterator[SigningProxy]:
    """The proxy, which has signed anna in."""
    proxy = SigningProxy(proxied_page, {**PROOF, "Remote-User": "anna"})
    yield proxy
    proxy.close()


def expect_account(page: Page, text: str) -> None:
    expect(page.locator(".job-list:not([inert])")).to_be_attached()
    expect(page.locator(".account-name")).to_have_text(text)


def test_a_proxys_user_is_signed_in_and_jobs_bear_the_name(
    roles_site: RolesSite, proxy: SigningProxy, page: Page
) -> None:
    page.goto(proxy.url)
    expect_account(page, "Signed in as anna")
    expect(page.get_by_label("Token", exact=True)).to_be_hidden()
    open_menu(page)
    expect(page.get_by_role("button", name="Keyboard shortcuts")).to_be_visible()
    expect(page.get_by_role("button", name="Sign out")).to_be_hidden()
    page.keyboard.press("Escape")
    details = {"command": "echo through the proxy", "name": "proxied", "key": "proxied"}
    job_id = page.evaluate(ASK, ["run", details])["id"]
    assert roles_site.site.storage.get(job_id).submitted_by == "anna"
    go(page, f"?job={job_id}")
    expect(log_of(page)).to_contain_text("through the proxy")  # by a ticket, from the API
    expect(page.get_by_role("link", name="mine")).to_be_visible()


def test_the_proxys_user_counts_whatever_the_browser_has_stored(
    roles_site: RolesSite, proxy: SigningProxy, page: Page
) -> None:
    annas = roles_site.send("POST", "/sessions")
    proxy.headers |= {"Remote-User": "carl", "Remote-Groups": "dev,ops"}
    page.goto(proxy.url)
    expect_account(page, "carl · may run saved commands")
    kept = json.dumps({name: annas[name] for name in ("key", "expires_at")})
    page.evaluate("kept => localStorage.setItem('tailboard.session', kept)", kept)
    proxy.headers |= {"Remote-User": "dora", "Remote-Groups": ""}
    page.reload()
    expect(page.get_by_text("Dora has no role")).to_be_visible()
    expect(page.get_by_label("Token", exact=True)).to_be_hidden()
    expect(page.get_by_role("button", name="+ Run")).to_have_count(0)
    page.evaluate(SIGN_IN, ["resume", annas["key"]])
    page.evaluate(SIGN_IN, ["sign_in", {"token": TOKENS["anna"], "keep": False}])
    expect(page.get_by_text("Dora has no role")).to_be_visible()
    proxy.headers |= {"Remote-Groups": "ops"}
    page.reload()
    expect_account(page, "dora · may run saved commands")


def test_a_tab_that_connects_again_as_another_user_keeps_nothing_of_the_first(
    proxy: SigningProxy, page: Page
) -> None:
    page.goto(proxy.url)
    expect_account(page, "Signed in as anna")
    page.evaluate("window.sameDocument = true")
    proxy.headers |= {"Remote-User": "carl", "Remote-Groups": "ops"}
    proxy.cut()
    expect_account(page, "carl · may run saved commands")
    assert not page.evaluate("window.sameDocument === true")  # its memory is empty, too
    answer = page.evaluate(ASK, ["run", {"command": "true", "name": "as anna", "key": "again"}])
    assert "carl has the role run" in answer["error"]


def test_another_user_does_not_get_the_session_of_the_first(
    roles_site: RolesSite, proxied_page: str
) -> None:
    """A connection that takes up anna's session at the page's server, as her tab would."""
    job = roles_site.submit(command="true", name="hers", env={"PLACE": "seen by anna"})
    with open_socket(proxied_page, **in_python(ANNA)) as hers:
        hers.sendall(first_visit())
        received = read_until(hers, re.compile(rb'"role": ?"all"'))
        errands = re.search(rb"\$\$ID-[0-9a-f]+-errands", received)
        assert errands
        ask = {"errand": "environment", "number": 1, "job": job}
        hers.sendall(trigger(errands[0].decode(), "ask", ask))
        read_until(hers, re.compile(b"seen by anna"))
    found = re.findall(rb"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", received)
    carl = {**PROOF, "Remote-User": "carl", "Remote-Groups": "ops"}

    def sees(headers: dict[str, str], role: str, session: bytes) -> bool:
        protocol = {"Sec_WebSocket_Protocol": f"streamlit, x, {session.decode()}"}
        with open_socket(proxied_page, **in_python(headers), **protocol) as again:
            again.sendall(first_visit())
            received = read_until(again, re.compile(f'"role": ?"{role}"'.encode()))
        return b"seen by anna" in received

    # One of these is the ID of her session. It can be taken up once her connection has closed.
    sessions = wait_until(lambda: [each for each in set(found) if sees(ANNA, "all", each)])
    assert not any(sees(carl, "run", each) for each in sessions)


def in_python(headers: dict[str, str]) -> dict[str, str]:
    return {name.replace("-", "_"): text for name, text in headers.items()}


def test_answers_that_are_kept_for_a_user_are_not_for_another() -> None:
    anna, carl = (Visitor(True, user=ProxyUser(name)) for name in ("anna", "carl"))
    dev = Visitor(True, user=ProxyUser("anna", ("dev",)))
    identities = {ApiClient("a token", each, {}).identity for each in (anna, carl, dev)}
    assert len(identities) == 3
    assert ApiClient("a token", anna, {}).token == ""


ANNA = {**PROOF, "Remote-User": "anna"}
LINK = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}
REFUSED_HEADERS: list[dict[str, str]] = [
    {},
    PROOF,
    {"Remote-User": "anna"},
    {"X-Tailboard-Proxy": "another secret", "Remote-User": "anna"},
    {**PROOF, "Remote_User": "anna"},
    {**ANNA, "Remote_User": "carl"},
    {**PROOF, "Remote-User": ""},
    {**PROOF, "Remote-User": "anna,carl"},
    {**ANNA, "Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"},
    {**ANNA, "Sec-Fetch-Site": "same-site", "Sec-Fetch-Mode": "cors"},
    {
        **ANNA,
        "Sec-Fetch-Site": "cross-site",
        "Sec-Fetch-Mode": "navigate",
        "Sec-Fetch-Dest": "iframe",
    },
    {**ANNA, "Origin": "http://evil.test"},
]


@pytest.mark.parametrize("headers", REFUSED_HEADERS)
def test_nothing_is_served_without_the_proxys_headers(
    proxied_page: str, headers: dict[str, str]
) -> None:
    """Not even to a program on this machine."""
    bearer = {"Authorization": f"Bearer {TOKENS['anna']}"}
    for path in ("/", "/app/static/sign_in.html", "/_stcore/host-config", "/x/_stcore/health"):
        answer = requests.get(proxied_page + path, headers=headers | bearer, timeout=30)
        assert answer.status_code == 403 and len(answer.content) < 200
        assert PROOF["X-Tailboard-Proxy"] not in answer.text
    assert handshake(proxied_page, headers) == b"HTTP/1.1 403"


def handshake(url: str, headers: dict[str, str]) -> bytes:
    """The beginning of the response to a WebSocket with these headers."""
    at = urlsplit(url)
    given = {"Host": at.netloc, "Connection": "Upgrade", "Upgrade": "websocket"}
    given |= {"Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA=="}
    lines = [f"{name}: {text}" for name, text in (given | headers).items()]
    with socket.create_connection((at.hostname, at.port), 30) as connection:
        head = "\r\n".join(["GET /_stcore/stream HTTP/1.1", *lines, "", ""])
        connection.sendall(head.encode())
        return connection.recv(12)


def test_the_proxy_and_links_of_other_sites_reach_the_page(proxied_page: str) -> None:
    for more in ({}, {"X-Forwarded-For": "192.0.2.9"}, {**LINK, "Sec-Fetch-Dest": "document"}):
        assert requests.get(proxied_page, headers=ANNA | more, timeout=30).status_code == 200
        assert handshake(proxied_page, ANNA) == b"HTTP/1.1 101"
    health = requests.get(f"{proxied_page}/_stcore/health", timeout=30)
    assert (health.status_code, health.text) == (200, "ok")


def test_only_the_proxys_address_may_name_a_user(roles_site: RolesSite, proxied_page: str) -> None:
    elsewhere = f"http://{address_of_this_machine()}:{proxied_page.rpartition(':')[2]}"
    for more in ({}, {"X-Forwarded-For": "127.0.0.1"}, {"Forwarded": "for=127.0.0.1"}):
        answer = requests.get(elsewhere, headers=ANNA | more, timeout=30)
        assert answer.status_code == 403 and "TAILBOARD_PROXIES" in answer.text
        assert handshake(elsewhere, ANNA | more) == b"HTTP/1.1 403"


def test_a_page_without_a_user_header_refuses_the_proxys_user(roles_site: RolesSite) -> None:
    """It would otherwise serve everybody whom the proxy lets through, whatever their role."""
    answer = requests.get(roles_site.site.url, headers=ANNA, timeout=30)
    assert answer.status_code == 403 and "TAILBOARD_USER_HEADER" in answer.text


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"TAILBOARD_PROXY_SECRET": ""}, "TAILBOARD_PROXY_SECRET"),
        ({"TAILBOARD_PROXY_SECRET": "too short"}, "TAILBOARD_PROXY_SECRET"),
        ({"TAILBOARD_USER_HEADER": ""}, "TAILBOARD_USER_HEADER"),
        ({"TAILBOARD_USER_HEADER": "Remote_User"}, "TAILBOARD_USER_HEADER"),
        ({"TAILBOARD_PROXIES": "proxy.example.org"}, "TAILBOARD_PROXIES"),
        ({"FORWARDED_ALLOW_IPS": "*"}, "FORWARDED_ALLOW_IPS"),
    ],
)
def test_settings_of_a_proxy_that_are_wrong_or_incomplete_prevent_the_start(
    tmp_path: Path, changed: dict[str, str], named: str
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", "import tailboard.page.settings"],
        env=clean_environment(tmp_path, **PROXY_SETTINGS) | {"PYTHONPATH": str(ROOT)} | changed,
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1 and named in done.stderr
    assert len(done.stderr.splitlines()) == 1 and "too short" not in done.stderr
