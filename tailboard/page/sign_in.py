"""Signing in and out: what the page does with a token, a session key, and the API's refusals.
Imports nothing of Streamlit."""

from __future__ import annotations

from contextlib import suppress

from tailboard.page.client import ApiClient, ApiError, Refused
from tailboard.page.saved_forms import as_sentence
from tailboard.page.session import Session
from tailboard.page.shapes import KeptSession, SignInData
from tailboard.sessions import is_session_key

NOT_VALID = "That token isn't valid."
TOKEN_ENDED = "Your token no longer works."
TOKEN_MISSING = (
    "Access from other machines requires a token: set TAILBOARD_TOKEN or TAILBOARD_TOKENS."
)
NOT_ENDED = (
    "You're signed out in this browser. The API didn't answer, so it couldn't end the session."
)


def sign_in(state: Session, client: ApiClient, keep: bool) -> None:
    """Sign in with the client's token. With `keep`, the page then uses a session key, which the
    browser stores; otherwise the page keeps the token until the tab is closed."""
    state.sign_in_number += 1
    try:
        client.get_json("/me", "named")
        kept = start_session(client) if keep else None
    except Refused:
        state.sign_in_wrong = NOT_VALID
        return
    except ApiError as error:
        state.sign_in_wrong = str(error)
        return
    state.token = kept["key"] if kept else client.token
    state.kept = kept
    state.refused, state.sign_in_wrong, state.rejected = 0, "", ""


def start_session(client: ApiClient) -> KeptSession:
    made = client.post_json("/sessions", {}, "key", "expires_at")
    return {"key": str(made["key"]), "expires_at": str(made["expires_at"])}


def resume(state: Session, key: str) -> None:
    """Try a session key that the browser has stored. If the API refuses it, the next refresh asks
    for the token."""
    state.sign_in_number += 1
    if is_session_key(key.encode()) and state.user is None:
        state.token, state.refused, state.rejected = key, 0, ""
    else:
        state.rejected = key


def sign_out(state: Session, client: ApiClient) -> Session:
    """End the session, if there is one. Returns the state of a visitor who is not signed in."""
    wrong = ""
    if is_session_key(client.token.encode()):
        try:
            with suppress(Refused):  # it has ended already
                client.request("DELETE", "/sessions/current")
        except ApiError:
            wrong = NOT_ENDED
    return Session(refused=401, sign_in_wrong=wrong, sign_in_number=state.sign_in_number + 1)


def refuse(state: Session, status: int, why: str = "") -> Session:
    """The state of a visitor whom the API has refused with 401 or 403. It contains nothing of what
    the visitor has seen before, but the API's reason for a visitor whom a proxy has signed in."""
    is_key = is_session_key(state.token.encode())
    return Session(
        refused=status,
        refused_why=as_sentence(why) if state.user else "",
        rejected=state.token if is_key else "",
        sign_in_wrong=TOKEN_ENDED if state.token and not is_key else "",
        sign_in_number=state.sign_in_number + 1,
    )


def sign_in_data(state: Session) -> SignInData:
    """What static/sign_in.js receives."""
    is_refused = bool(state.refused)
    message = TOKEN_MISSING if state.refused == 403 else ""
    return {
        "asks": is_refused,
        "can_sign_in": state.refused == 401 and state.user is None,
        "message": state.refused_why if state.user else message,
        "wrong": state.sign_in_wrong,
        "rejected": state.rejected,
        "keep": None if is_refused else state.kept,
        "number": state.sign_in_number,
    }
