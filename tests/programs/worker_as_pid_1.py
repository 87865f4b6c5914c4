"""The worker as in a container: it believes that it is process 1."""

from __future__ import annotations

import os

import worker


def one() -> int:
    return 1


if __name__ == "__main__":
    os.getpid = one
    worker.main()
