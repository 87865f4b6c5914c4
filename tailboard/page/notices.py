"""Loads the notifications of the last day, and what the form of a saved command needs to change who
receives them."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
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
STEP_TIME = 1.0  # seconds to wait for a test until the browser gets an answer
MOST_TESTS = 8  # at a time
MOST_RESULTS = 50  # that are kept for browsers which may no longer ask for them


def load_notices(client: ApiClient, _errand: Errand) -> dict[str, Any]:
    """The notifications of the last day, newest first."""
    found = client.get_json(PATH, "notifications", keep="notices")["notifications"]
    return {"notices": found, "more": len(found) >= LIMIT}


def load_noticed(client: ApiClient) -> list[str] | None:
    """When people were notified in the last day, newest first; None if the API does not report
    it."""
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


# --- Tests ----------------------------------------------------------------------------------------


class Tests:
    """Test messages. Each is sent by a thread, because the API waits for another server: meanwhile,
    nothing else of the visitor's page would be loaded. The browser asks for the result until it
    gets it."""

    def __init__(self) -> None:
        self.threads = ThreadPoolExecutor(MOST_TESTS, thread_name_prefix="test message")
        # By the errand's key:
        self.results: OrderedDict[str, Future[dict[str, Any]]] = OrderedDict()

    def result(self, client: ApiClient, errand: Errand) -> dict[str, Any]:
        """Begin the test with this key, or wait for it for STEP_TIME. Returns whether the other
        server has accepted the message, and its answer; or that the test is still `pending`."""
        key = errand["key"]
        if key not in self.results:
            self.results[key] = self.threads.submit(try_target, client, errand)
            while len(self.results) > MOST_RESULTS:
                self.results.popitem(last=False)
        test = self.results[key]
        try:
            found = test.result(STEP_TIME)
        except TimeoutError:
            return {"pending": True}
        finally:
            if test.done():
                self.results.pop(key, None)
        return found | {"pending": False}


def try_target(client: ApiClient, errand: Errand) -> dict[str, Any]:
    """Send one message. `saved` is the saved command that knows the whole URL if the browser does
    not."""
    body = {name: errand[name] for name in ("to", "saved") if errand.get(name)}
    try:
        return client.post_json("/notifications/test", body, "ok", "answer", is_long=True)
    except ApiError as error:
        if error.status != 400:
            raise
        sentence = as_sentence(str(error).removeprefix("to: "))
        raise ApiError(sentence, error.status) from None


tests = Tests()
