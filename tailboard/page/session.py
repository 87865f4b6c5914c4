"""What the page remembers of one visitor, until the visitor closes the tab."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import Any

import requests
import streamlit as st

from tailboard.page.guard import find_user
from tailboard.page.shapes import (
    HeaderAnswer,
    Job,
    KeptSession,
    Listing,
    SavedAnswer,
    SentList,
    Totals,
    UnconfirmedSubmit,
)
from tailboard.proxy_headers import ProxyUser


def empty_listing() -> Listing:
    return {
        "rows": [],
        "counts": {},
        "next": None,
        "skipped": 0,
        "searched": 0,
        "more": False,
        "all_counts": {},
        "paused": [],
    }


def empty_totals() -> Totals:
    return {
        "counts": {},
        "paused": [],
        "workers": [],
        "machines": "",
        "slots": {"busy": 0, "all": 0},
        "failed_today": "",
        "ticket": "",
        "noticed": None,
        "me": {"name": "", "role": "all", "signed_in": False, "by_proxy": False, "named": False},
    }


def no_list() -> SentList:
    return {"number": "", "filters": None, "rows": []}


@dataclass
class Session:
    """The state of one visitor's tab."""

    token: str = ""  # that the visitor has typed, or a session key
    kept: KeptSession | None = None  # the session that the visitor has just begun
    user: ProxyUser | None = None  # if a proxy has signed the visitor in
    refused: int = 0  # the API's 401 or 403, if the page has to ask for the token
    refused_why: str = ""  # the API's reason, for a visitor whom a proxy has signed in
    rejected: str = ""  # the session key that the API has refused
    sign_in_wrong: str = ""  # why the last attempt to sign in has failed
    sign_in_number: int = 0  # of the attempts to sign in and out
    etag_cache: dict[str, requests.Response] = field(default_factory=dict)
    listing: Listing = field(default_factory=empty_listing)
    totals: Totals = field(default_factory=empty_totals)
    sent_list: SentList = field(default_factory=no_list)
    answer: HeaderAnswer | None = None
    saved: list[Job] | None = None  # the saved commands; None until the visitor opens them
    saved_error: str = ""  # why the saved commands could not be loaded
    saved_answer: SavedAnswer | None = None
    shown_job: Job | None = None  # the job whose log is shown, as last loaded
    shown_error: str = ""  # why that job or its log could not be loaded
    unconfirmed: UnconfirmedSubmit | None = None
    # For `unconfirmed`.
    digest_key: bytes = field(default_factory=lambda: os.urandom(32), repr=False, compare=False)
    errand_answer: dict[str, Any] = field(default_factory=dict)
    # Job ID -> name -> value: the environment variables that the visitor has asked to see.
    revealed: dict[str, dict[str, str]] = field(default_factory=dict)


def session() -> Session:
    """The session of the visitor whose page is being drawn or whose event is being handled. It is a
    new one if the tab has connected again after somebody else has signed in at the proxy."""
    user = find_user(st.context.headers)
    found: Session | None = st.session_state.get("session")
    if found is None or found.user != user:
        found = Session(user=user)
        st.session_state["session"] = found
    return found


def replace_session(state: Session) -> None:
    """Forget everything about the visitor, and begin with this state."""
    state.user = find_user(st.context.headers)
    st.session_state["session"] = state
