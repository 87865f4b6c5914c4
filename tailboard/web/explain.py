"""Explaining a job over HTTP. Explanations of long logs wait for their turn, as searches do."""

from __future__ import annotations

from typing import Any

from tailboard.job import Job
from tailboard.logs import Log
from tailboard.web.log_search import LONG_LOG_BYTES, searcher
from tailboard.web.models import ExplainQuery
from tailboard.web.state import state


def explain_in_turn(job: Job, log: Log, query: ExplainQuery) -> dict[str, Any]:
    """The explanation of a job; 503 if its log is long and too many others are being read."""
    names = query.parts.split(",")
    if log.size - log.start <= LONG_LOG_BYTES:
        return state().explainer.explain(job, log, names)
    with state().searches.turn(searcher()):
        return state().explainer.explain(job, log, names)
