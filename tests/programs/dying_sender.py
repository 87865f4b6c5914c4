"""A worker that kills itself with SIGKILL when it comes to a place of sending a message:

dying_sender.py requested|decided|sent OPTION...

requested: a job has ended, and nothing is decided. decided: the record of the job says what is to
be sent, and nothing was sent. sent: the receiver has accepted the message, and nothing says so."""

from __future__ import annotations

import os
import signal
import sys
from typing import Any

import worker
from tailboard.notify.outbox import Outbox
from tailboard.notify.service import NotificationService


def die(*_: Any, **__: Any) -> Any:
    os.kill(os.getpid(), signal.SIGKILL)


PLACES: dict[str, tuple[type, str]] = {
    "requested": (NotificationService, "_look_at_job"),
    "decided": (Outbox, "add"),
    "sent": (Outbox, "_note"),
}

place, name = PLACES[sys.argv.pop(1)]
getattr(place, name)  # AttributeError if nothing has this name
setattr(place, name, die)

if __name__ == "__main__":
    worker.main()
