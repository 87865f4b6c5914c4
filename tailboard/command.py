"""The program `tailboard`. `python -m tailboard` is the same."""

from __future__ import annotations

import sys

from tailboard.roles import ROOT


def main() -> None:
    sys.path.insert(0, str(ROOT))  # the commands import storage.py, and the API if they need it
    from tailboard.cli.main import tailboard

    tailboard(prog_name="tailboard")
