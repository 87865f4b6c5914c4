"""The worker as it is, but for some of its times, so that tests need not sit through them, or for
the shell that runs its shims:

tuned_worker.py MODULE.NAME=SECONDS... -- OPTION...
TEST_SHELL=/bin/bash tuned_worker.py ...
"""

from __future__ import annotations

import os
import sys
from importlib import import_module

import worker
from tailboard.run import shim

separator = sys.argv.index("--")
for setting in sys.argv[1:separator]:
    place, seconds = setting.split("=")
    module, _, name = place.rpartition(".")
    setattr(import_module(module), name, float(seconds))
del sys.argv[1 : separator + 1]
shim.SHELL = os.environ.get("TEST_SHELL", shim.SHELL)

if __name__ == "__main__":
    worker.main()
