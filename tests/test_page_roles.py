"""What each role sees on the page and can do there, in real Chromium."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from conftest import need_browser, wait_until
from page_site import Site, choose_interval, log_of, open_palette, served, waiting
from playwright.sync_api import Page, expect

TOKENS = {name: f"{name} has a long secret" for name in ("anna", "ben", "wall")}
ROLES = {"anna": "all", "ben": "run", "wall": "read"}
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
    with served(home, TAILBOARD_TOKENS=str(home / "tokens")) as site:
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
    page.get_by_role("button", name="More actions").click()
    expect(page.get_by_role("link", name="Download the whole log")).to_be_visible()


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


def check_buttons(page: Page, wanted: set[str]) -> None:
    """Waits until exactly these are visible: some arrive with the details of the job."""
    wait_until(lambda: visible_buttons(page) == wanted, 60, lambda: visible_buttons(page) ^ wanted)


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
        check_buttons(page, wanted[job])
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
    page.keyboard.press("?")
    sheet = page.get_by_role("dialog", name="Keyboard shortcuts")
    expect(sheet.get_by_text("cancel the job")).to_be_visible()
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
