"""A job that writes text of many alphabets in pieces that end anywhere, some followed by bytes that
are no UTF-8."""

from __future__ import annotations

import os
import random
import time

LINES = ["日本語🎉\n", "ascii\r\n", "\u2028é\0", "\n"]
BROKEN = [b"\xff", b"\xe6\x97", b"\xf0\x9f\x8e", b"\x80\x80", b"\xc3", b"\xed\xa0\x80"]
dice = random.Random(7)
text = "".join(dice.choice([f"進捗 {n}%\r", *LINES]) for n in range(900)).encode()
at = 0
while at < len(text):
    piece = text[at : at + dice.randint(1, 40)]
    at += len(piece)
    os.write(1, piece)
    if dice.random() < 0.2:
        os.write(1, dice.choice(BROKEN))
    time.sleep(0.002)  # so that followers come to it piece by piece
os.write(1, b"last line without an end \xe6\x97")
