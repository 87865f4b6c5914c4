"""The state of the API's process. It works with any kind of store."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Mapping
from contextlib import suppress

from flask import current_app

import storage
from tailboard.errors import StoreUnreachable
from tailboard.explain.compare import Comparisons
from tailboard.explain.explainer import Explainer
from tailboard.notify.history import History
from tailboard.notify.usual import UsualTimes
from tailboard.proxy_headers import ProxyRules, parse_networks
from tailboard.settings import Settings
from tailboard.web.bulk_memory import BulkMemory
from tailboard.web.line_counts import LineCounts
from tailboard.web.metrics import Metrics
from tailboard.web.prune_search import PruneSearch
from tailboard.web.route_match import Requirement
from tailboard.web.saved_runs import SavedRuns
from tailboard.web.search_turns import SearchTurns
from tailboard.web.sign_in_limit import SignInLimit
from tailboard.web.tokens import TokenFile
from tailboard.web.usage_samples import SteadyUsage
from tailboard.web.users import UserFile

MOST_TESTS = 4  # test messages that are sent at a time; each holds a thread


class AppState:
    """What the routes of one application share."""

    def __init__(
        self, settings: Settings, store: storage.Store, access: Mapping[str, Requirement]
    ) -> None:
        """`access` is what `auth.guard` returns. The application also starts while Redis is
        unreachable; ValueError if the store could lose jobs, see `Health.check`."""
        self.settings = settings
        self.store = store
        self.access = access  # endpoint -> what a request needs
        self.tokens = TokenFile(settings.tokens)
        self.users = UserFile(settings.users)
        self.proxy_rules = ProxyRules(
            settings.user_header,
            settings.group_header,
            settings.proxy_secret,
            parse_networks("TAILBOARD_PROXIES", settings.proxies),
        )
        # Empty: a page may read logs only with a ticket for its own origin.
        self.origins = settings.dashboard.split(",") if settings.dashboard else []
        self.followers = threading.Semaphore(settings.followers)
        self.searches = SearchTurns()
        self.tests = threading.Semaphore(MOST_TESTS)
        self.sign_ins = SignInLimit()
        self.bulks = BulkMemory()
        self.prune_search = PruneSearch(store, settings)
        self.line_counts = LineCounts()
        self.metrics = Metrics(store)
        self.history = History(store)
        self.usual_times = UsualTimes(store, self.history)
        self.explainer = Explainer(store, self.history, self.usual_times)
        self.comparisons = Comparisons()
        self.saved_runs = SavedRuns(store)
        self.steady_usage = SteadyUsage(store)
        self.outages = OutageLog()
        with suppress(StoreUnreachable):
            store.check()
            self.metrics.start()

    @property
    def needs_token(self) -> bool:
        """Does a request need a token, unless a proxy names its user?"""
        settings = self.settings
        return bool(settings.token or settings.tokens or settings.user_header)


class OutageLog:
    """Logs that the storage cannot be reached, but only once a minute, not for each request and
    follower that fails because of it."""

    INTERVAL = 60.0  # seconds

    def __init__(self) -> None:
        self.next_at = 0.0  # on the monotonic clock

    def report(self, error: OSError) -> None:
        now = time.monotonic()
        if now >= self.next_at:
            self.next_at = now + self.INTERVAL
            logging.getLogger("tailboard").error("storage: %s (logged once a minute)", error)


def state() -> AppState:
    """The state of the application that answers this request."""
    found: AppState = current_app.extensions["tailboard"]
    return found
