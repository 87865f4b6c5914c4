"""The worker, started by a process whose peak of memory is 200 MiB."""

from __future__ import annotations

import os
import sys

peak = b"x" * (200 << 20)
os.execv(sys.executable, [sys.executable, "worker.py"])
