"""A job that prints half a line, and ends once it can read a byte of the file given.

print_and_wait.py FILE
"""

from __future__ import annotations

import sys

print("no newline", end="")
with open(sys.argv[1]) as gate:
    gate.read(1)
