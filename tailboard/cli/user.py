"""The name of the person who runs a command."""

from __future__ import annotations

import os
from getpass import getuser


def user_name() -> str:
    """The name of the person who runs this command. With sudo, `getuser` returns the name of the
    user to which sudo has switched, which several people may share. A user who is not in the
    system's list of users has the number of that user as a name."""
    try:
        return os.environ.get("SUDO_USER") or getuser()
    except (KeyError, OSError):  # Python 3.13 raises OSError
        return str(os.getuid())
