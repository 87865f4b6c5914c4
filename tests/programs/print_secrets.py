"""A job that prints its secrets in many forms, in pieces:

print_secrets.py SEED EXIT_CODE

The secrets are the variables whose names begin with SECRET_. Tests import `pieces` to know what
readers may see of the output."""

from __future__ import annotations

import os
import random
import re
import sys
import time
from base64 import b64encode
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple
from urllib.parse import quote, quote_plus


class Piece(NamedTuple):
    """One write of the job."""

    fd: int
    data: bytes
    shown: bytes  # what readers see instead


def pieces(values: Sequence[bytes], seed: str) -> Iterator[Piece]:
    """What the job writes, in this order."""
    dice = random.Random(seed)
    for number in range(dice.randrange(3, 9)):
        value = dice.choice(values)
        text = dice.choice((value, b64encode(value), quote(value, "").encode()))
        if text == value and dice.random() < 0.2:
            text = quote_plus(value).encode()
        fd = dice.choice((1, 2))
        yield Piece(fd, b"%d: " % number, b"%d: " % number)
        yield from cut(fd, text, re.sub(rb"[^\n]", b"*", text), dice.choice((1, 2, 2, 3)), dice)
        yield Piece(fd, b"\n", b"\n")


def cut(fd: int, data: bytes, shown: bytes, count: int, dice: random.Random) -> Iterator[Piece]:
    """The data in so many pieces, cut at random places."""
    places = [0, *sorted(dice.randrange(len(data)) for _ in range(count - 1)), len(data)]
    for begin, end in pairwise(places):
        yield Piece(fd, data[begin:end], shown[begin:end])


if __name__ == "__main__":
    names = sorted(name for name in os.environb if name.startswith(b"SECRET_"))
    pauses = random.Random(sys.argv[1])
    for piece in pieces([os.environb[name] for name in names], sys.argv[1]):
        os.write(piece.fd, piece.data)
        if pauses.random() < 0.3:
            time.sleep(pauses.random() / 20)
    sys.exit(int(sys.argv[2]))
