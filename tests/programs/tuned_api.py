"""The API as it is, but for some of its times, so that tests need not sit through them:

tuned_api.py MODULE.NAME=SECONDS...
"""

from __future__ import annotations

import sys
from importlib import import_module

import api

# Not below: the server's second process may import this file instead of inheriting what is set.
for setting in sys.argv[1:]:
    place, seconds = setting.split("=")
    home, _, name = place.rpartition(".")
    module = import_module(home)
    kind = type(getattr(module, name))  # sockets take whole seconds only
    setattr(module, name, kind(seconds))

if __name__ == "__main__":
    api.main()
