"""The API as it is, but for some of its times, so that tests need not sit through them:

tuned_api.py NAME=SECONDS...
"""

from __future__ import annotations

import sys

import api

# Not below: the server's second process may import this file instead of inheriting what is set.
for setting in sys.argv[1:]:
    name, seconds = setting.split("=")
    kind = type(getattr(api, name))  # sockets take whole seconds only
    setattr(api, name, kind(seconds))

if __name__ == "__main__":
    api.main()
