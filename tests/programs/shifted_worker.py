"""The worker as it is, but for the clock that it reads:

shifted_worker.py SECONDS OPTION...
"""

from __future__ import annotations

import sys
import time

import worker

real_time = time.time
shift = float(sys.argv.pop(1))


def shifted_time() -> float:
    return real_time() + shift


if __name__ == "__main__":
    time.time = shifted_time
    worker.main()
