"""Explaining a job over HTTP. Explanations of long logs wait for their turn, as searches do."""

from __future__ import annotations

from typing import Any

from tailboard.job import Job
from tailboard.logs import Log
from tailboard.web.log_search import turn_for
from tailboard.web.models import ExplainQuery
from tailboard.web.state import state


def explain_in_turn(job: Job, log: Log, query: ExplainQuery) -> dict[str, Any]:
    """The explanation of a job; 503 if its log is long and too many others are being read."""
    with turn_for(log):
        return state().explainer.explain(job, log, query.parts.split(","))
