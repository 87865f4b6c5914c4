"""The program `tailboard`. `python -m tailboard` is the same."""

from __future__ import annotations

import sys

from tailboard.env_file import load_env_file
from tailboard.roles import ROOT


def main() -> None:
    sys.path.insert(0, str(ROOT))  # the commands import storage.py, and the API if they need it
    try:
        load_env_file()
        from tailboard.cli.main import tailboard  # takes a moment
    except ValueError as error:
        sys.exit(f"Error: {error}")
    except KeyboardInterrupt:
        sys.exit(130)
    tailboard(prog_name="tailboard")
