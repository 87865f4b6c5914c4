"""Where the programs are: api.py, worker.py and dashboard.py, with what they read at their side.

In a checkout that is its root. In an installed package it is tailboard/roles/, because a package
must not install modules such as `api` or `storage` for every program of its environment."""

from __future__ import annotations

from pathlib import Path

_INSTALLED = Path(__file__).with_name("roles")
# The folder that contains api.py, worker.py, dashboard.py, storage.py, static/ and .streamlit/.
ROOT = _INSTALLED if _INSTALLED.is_dir() else Path(__file__).parents[1]
