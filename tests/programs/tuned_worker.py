"""The worker as it is, but for some of its times, so that tests need not sit through them:

tuned_worker.py NAME=SECONDS... -- OPTION...
"""

from __future__ import annotations

import sys

import worker

separator = sys.argv.index("--")
for setting in sys.argv[1:separator]:
    name, seconds = setting.split("=")
    setattr(worker, name, float(seconds))
del sys.argv[1 : separator + 1]

if __name__ == "__main__":
    worker.main()
