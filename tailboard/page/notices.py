"""Loads the notifications of the last day, and what the form of a saved command needs to change who
receives them."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from functools import cache
from typing import Any
from urllib.parse import urlencode

import streamlit as st

from tailboard.page.client import ApiClient, ApiError
from tailboard.page.saved_forms import as_sentence
from tailboard.page.shapes import Errand

LIMIT = 100  # notifications
PATH = f"/notifications?{urlencode({'since': '1d', 'limit': LIMIT})}"
PERIOD = 5  # seconds until the times of notifications are loaded again
TEST_PATIENCE = 18.0  # seconds for a test: the API waits for another server


def load_notices(client: ApiClient, _errand: Errand) -> dict[str, Any]:
    """The notifications of the last day, newest first."""
    found = client.get_json(PATH, "notifications", keep="notices")["notifications"]
    return {"notices": found, "more": len(found) >= LIMIT}


def load_noticed(client: ApiClient) -> list[str] | None:
    """When people were notified in the last day, newest first; None if the API cannot say it."""
    with suppress(ApiError):
        return cached_times()(client, client.token)
    return None


@cache
def cached_times() -> Callable[..., list[str]]:
    """find_times with a cache for all visitors. It is made at the first visit, because Streamlit
    logs a warning if a cache is made before its server runs."""
    return st.cache_data(ttl=PERIOD, max_entries=200, show_spinner=False)(find_times)


def find_times(_client: ApiClient, token: str) -> list[str]:
    """`token` only distinguishes the answers that are cached."""
    found = _client.get_json(PATH, "notifications")["notifications"]
    return [str(notice["at"]) for notice in found if notice["deliveries"]]


def load_targets(client: ApiClient, _errand: Errand) -> dict[str, Any]:
    """The names of URLs, each with its masked URL."""
    return client.get_json("/notifications/targets", "targets")


def try_target(client: ApiClient, errand: Errand) -> dict[str, Any]:
    """Send one notification. Returns whether the other server accepted it, and its answer. `saved`
    is the saved command that knows the whole URL if the browser does not."""
    body = {name: errand[name] for name in ("to", "saved") if errand.get(name)}
    path = "/notifications/test"
    try:
        return client.post_json(path, body, "ok", "answer", patience=TEST_PATIENCE)
    except ApiError as error:
        if error.status != 400:
            raise
        sentence = as_sentence(str(error).removeprefix("to: "))
        raise ApiError(sentence, error.status) from None
