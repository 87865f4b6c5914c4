"""The API with other times, so that tests need not wait so long:

tuned_api.py MODULE.NAME=SECONDS...
"""

from __future__ import annotations

import sys
from importlib import import_module

import api

# Outside of main: the server's second process may import this file instead of inheriting the times.
for setting in sys.argv[1:]:
    place, seconds = setting.split("=")
    home, _, name = place.rpartition(".")
    module = import_module(home)
    kind = type(getattr(module, name))  # sockets take only whole seconds; AttributeError if unknown
    setattr(module, name, kind(seconds))

if __name__ == "__main__":
    api.main()
