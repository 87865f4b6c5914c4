"""The worker with other times, so that tests need not wait so long, or with another shell for its
shims:

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
    home, _, name = place.rpartition(".")
    module = import_module(home)
    kind = type(getattr(module, name))  # AttributeError if nothing has this name
    setattr(module, name, kind(seconds))
del sys.argv[1 : separator + 1]
shim.SHELL = os.environ.get("TEST_SHELL", shim.SHELL)

if __name__ == "__main__":
    worker.main()
