"""Signing in to the page, staying signed in, and signing out, in real Chromium."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import requests
from conftest import TOKEN, free_port
from page_site import (
    ANNAS_TOKEN,
    Site,
    check_with_axe,
    counting,
    log_of,
    row,
    state,
    visit,
    waiting,
)
from playwright.sync_api import BrowserContext, Locator, Page, expect

from tailboard.page import settings
from tailboard.page import sign_in as sign_in_module
from tailboard.page.client import ApiClient, Visitor
from tailboard.page.session import Session
from tailboard.sessions import new_session

TOKEN_ENDED = "Your token no longer works."
# Notes whether the form was visible at any moment since the page began to load.
WATCH_FORM = """
    window.formWasShown = false;
    const look = () => {
        for (const node of document.querySelectorAll("*")) {
            const form = node.shadowRoot?.querySelector(".sign-in:not([hidden])");
            window.formWasShown ||= Boolean(form);
        }
        requestAnimationFrame(look);
    };
    look();
"""


def token_field(page: Page) -> Locator:
    return page.get_by_label("Token", exact=True)


def wrong(page: Page) -> Locator:
    return page.locator(".sign-in-wrong")


def sign_in(page: Page, url: str, token: str = ANNAS_TOKEN, keep: bool = True) -> None:
    page.goto(url)
    token_field(page).fill(token)
    page.get_by_label("Keep me signed in").set_checked(keep)
    page.get_by_role("button", name="Sign in").click()
    wait_for_list(page)


def wait_for_list(page: Page) -> None:
    expect(page.locator(".job-list:not([inert])")).to_be_attached()
    expect(token_field(page)).to_be_hidden()


def open_menu(page: Page) -> None:
    page.get_by_role("button", name="More", exact=True).click()
    expect(page.get_by_role("button", name="Keyboard shortcuts")).to_be_visible()


def sign_out(page: Page) -> None:
    open_menu(page)
    page.get_by_role("button", name="Sign out").click()


def stored(page: Page) -> dict[str, str]:
    """What this browser has stored, by name."""
    found: dict[str, str] = page.evaluate("({...localStorage, ...sessionStorage})")
    return found


def session_key(page: Page) -> str:
    return str(json.loads(stored(page)["tailboard.session"])["key"])


def is_accepted(site: Site, key: str) -> bool:
    headers = {"Authorization": f"Bearer {key}"}
    return requests.get(f"{site.api}/me", headers=headers, timeout=30).status_code == 200


def session_files(site: Site) -> list[Path]:
    return list((site.root / "jobs" / "sessions").glob("*"))


def test_a_reload_a_second_tab_and_a_link_do_not_ask_for_the_token_again(
    locked_site: Site, context: BrowserContext, page: Page, new_page: Page
) -> None:
    job = locked_site.submit("echo from a link", "from a chat")
    sign_in(page, locked_site.url)
    page.reload()
    wait_for_list(page)
    new_page.add_init_script(WATCH_FORM)
    visit(new_page, f"{locked_site.url}/?job={job.id}")
    expect(new_page.get_by_role("heading", name="from a chat")).to_be_visible()
    assert not new_page.evaluate("window.formWasShown")
    kept = stored(page)
    assert session_key(page).startswith("tbs_") and ANNAS_TOKEN not in str(kept)
    secrets = (ANNAS_TOKEN, session_key(page))
    for text in (str(context.cookies()), page.url, new_page.url, locked_site.processes.text()):
        assert not [secret for secret in secrets if secret in text]


def test_signing_out_ends_the_session_in_all_tabs(
    locked_site: Site, page: Page, new_page: Page
) -> None:
    new_page.goto(locked_site.url)
    expect(token_field(new_page)).to_be_visible()
    sign_in(page, locked_site.url)
    wait_for_list(new_page)  # which has waited for the token
    key = session_key(page)
    open_menu(page)
    expect(page.get_by_text("Signed in as anna")).to_be_visible()
    page.get_by_role("button", name="Sign out").click()
    for tab in (page, new_page):
        expect(token_field(tab)).to_be_visible()
        expect(wrong(tab)).to_have_text("")
        expect(tab.get_by_role("button", name="+ Run")).to_have_count(0)
    assert not is_accepted(locked_site, key)
    assert "tailboard.session" not in stored(page)
    page.reload()
    expect(token_field(page)).to_be_visible()


def test_without_keeping_it_nothing_is_stored(locked_site: Site, page: Page) -> None:
    before = set(session_files(locked_site))
    sign_in(page, locked_site.url, TOKEN, keep=False)
    open_menu(page)
    expect(page.get_by_text("Signed in", exact=True)).to_be_visible()
    assert "tailboard.session" not in stored(page) and TOKEN not in str(stored(page))
    assert set(session_files(locked_site)) == before
    page.reload()
    expect(token_field(page)).to_be_visible()


def test_the_end_of_a_session_is_explained(locked_site: Site, page: Page, new_page: Page) -> None:
    sign_in(page, locked_site.url)
    visit(new_page, locked_site.url)
    for path in session_files(locked_site):
        path.unlink()
    for tab in (page, new_page):
        expect(tab.get_by_text(TOKEN_ENDED)).to_be_visible()  # at the next refresh
    new_page.close()  # it would offer the next keys, too
    key, session = new_session("of a token that was revoked", "anna")
    for end, reported in (
        (session.expires_at, TOKEN_ENDED),
        ("2026-01-01T00:00:00.000Z", "You were signed in for 30 days."),
    ):
        kept = json.dumps({"key": key, "expires_at": end})
        page.evaluate("kept => localStorage.setItem('tailboard.session', kept)", kept)
        page.reload()
        expect(page.get_by_text(reported)).to_be_visible()
        assert "tailboard.session" not in stored(page)


def test_the_form_says_what_it_is_and_what_is_wrong(locked_site: Site, page: Page) -> None:
    page.set_viewport_size({"width": 390, "height": 844})
    page.goto(locked_site.url)
    expect(page.get_by_role("heading", name="Tailboard")).to_be_visible()
    expect(page.get_by_text("tailboard token NAME")).to_be_visible()
    expect(page.get_by_label("Keep me signed in")).to_be_checked()
    expect(token_field(page)).to_be_focused()
    page.keyboard.press("Enter")
    expect(wrong(page)).to_have_text("Enter your token.")
    page.keyboard.type("wrong")
    expect(wrong(page)).to_have_text("")
    for _ in range(2):  # the second answer is the same as the first
        page.keyboard.press("Enter")
        expect(page.get_by_role("button", name="Sign in")).to_have_text("Sign in")
        expect(wrong(page)).to_have_text("That token isn't valid.")
    assert page.evaluate("document.scrollingElement.scrollWidth") <= 390
    check_with_axe(page)
    expect(page).to_have_url(re.compile(rf"^{re.escape(locked_site.url)}/$"))


def test_another_visitor_sees_nothing_of_the_last_one(locked_site: Site, page: Page) -> None:
    locked_site.submit("true", "seen by anna")
    sign_in(page, locked_site.url)
    expect(row(page, "seen by anna")).to_be_visible()
    page.evaluate("window.sameDocument = true")
    sign_out(page)
    expect(token_field(page)).to_be_visible()
    assert "seen by anna" not in page.content()
    assert not page.evaluate("window.sameDocument === true")  # its memory is empty, too


def test_the_page_asks_for_the_token_once_and_streams_by_ticket(
    locked_site: Site, page: Page, gate_file: Path
) -> None:
    job = locked_site.python(counting(gate_file))
    page.goto(f"{locked_site.url}/?job={job.id}")
    expect(page.get_by_label("Token")).to_be_visible()
    expect(page.get_by_label("Command")).to_have_count(0)
    page.get_by_label("Token").fill("wrong")
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_text("That token isn't valid")).to_be_visible()
    page.get_by_label("Token").fill(ANNAS_TOKEN)
    page.get_by_role("button", name="Sign in").click()
    expect(log_of(page)).to_contain_text("line 1")
    expect(state(page)).to_have_text("live")
    expect(page.get_by_label("Token")).to_be_hidden()
    assert ANNAS_TOKEN not in page.content() + page.url


def test_from_another_machine_the_page_does_nothing_without_a_token(
    page_site: Site, locked_site: Site, page: Page, gate_file: Path
) -> None:
    """Otherwise the API would take the visitor for a program on its own machine."""
    page.goto(page_site.url.replace("127.0.0.1", "elsewhere.test"))
    expect(page.get_by_text("set TAILBOARD_TOKEN")).to_be_visible()
    expect(page.get_by_role("button", name="+ Run")).to_have_count(0)
    job = locked_site.submit(waiting(gate_file), "no bell")
    page.goto(f"{locked_site.url}/?job={job.id}".replace("127.0.0.1", "elsewhere.test"))
    page.get_by_label("Token").fill(TOKEN)
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("button", name="+ Run")).to_be_visible()
    expect(page.get_by_role("heading", name="no bell")).to_be_visible()
    expect(page.get_by_role("button", name="Notify me")).to_be_hidden()  # plain http


def test_rows_show_who_started_a_job_and_mine_filters_them(locked_site: Site, page: Page) -> None:
    for token, name in ((ANNAS_TOKEN, "job of anna"), (TOKEN, "job of nobody")):
        requests.post(
            f"{locked_site.api}/jobs",
            json={"command": "true", "name": name},
            headers={"Authorization": f"Bearer {token}"},
        ).raise_for_status()
    page.goto(locked_site.url)
    token_field(page).fill(ANNAS_TOKEN)
    token_field(page).press("Enter")
    expect(row(page, "job of nobody")).to_be_visible()
    expect(row(page, "job of anna").locator(".initials")).to_have_text("AN")
    expect(row(page, "job of nobody").locator(".initials")).to_have_count(0)
    mine = page.get_by_role("navigation", name="Status").get_by_role("link", name="mine")
    mine.click()
    expect(page).to_have_url(re.compile("by=anna"))
    expect(row(page, "job of nobody")).to_have_count(0)
    expect(row(page, "job of anna")).to_be_visible()
    mine.click()
    expect(row(page, "job of nobody")).to_be_visible()


# --- Without a browser ----------------------------------------------------------------------------


@pytest.fixture
def no_api(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings, "API", f"http://127.0.0.1:{free_port()}")


def client(token: str) -> ApiClient:
    return ApiClient(token, Visitor(is_remote=False), {})


def test_without_the_api_nobody_is_signed_in(no_api: None) -> None:
    state = Session(refused=401)
    sign_in_module.sign_in(state, client("a token"), keep=True)
    assert (state.token, state.refused, state.kept) == ("", 401, None)
    assert state.sign_in_wrong == "Not sent: the API isn't answering. Try again."


def test_without_the_api_signing_out_says_what_is_left(no_api: None) -> None:
    key, _ = new_session("hash", None)
    state = sign_in_module.sign_out(Session(token=key), client(key))
    assert (state.token, state.refused) == ("", 401)
    assert state.sign_in_wrong == sign_in_module.NOT_ENDED
    state = sign_in_module.sign_out(Session(token="a token"), client("a token"))
    assert state.sign_in_wrong == ""  # there is no session


def test_only_a_session_key_is_resumed() -> None:
    state = Session(refused=401)
    sign_in_module.resume(state, "a token")
    assert (state.token, state.refused, state.rejected) == ("", 401, "a token")
    key, _ = new_session("hash", None)
    sign_in_module.resume(state, key)
    assert (state.token, state.refused, state.rejected) == (key, 0, "")


def test_a_refusal_forgets_everything_about_the_visitor() -> None:
    key, _ = new_session("hash", None)
    for token, rejected, wrong in (
        ("", "", ""),
        (key, key, ""),  # the browser knows why
        ("a token", "", sign_in_module.TOKEN_ENDED),
    ):
        state = Session(token=token, revealed={"1": {"A": "secret"}})
        assert sign_in_module.refuse(state, 401) == Session(
            refused=401, rejected=rejected, sign_in_wrong=wrong, sign_in_number=1
        )
