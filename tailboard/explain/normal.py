"""Compares lines of different runs: what differs between any two runs is replaced.

A line is reduced to its words in lower case, without colours and punctuation. In these, every
number, time, date, duration, size, hash, ID, address and temporary name becomes NUMBER. Numbers
that follow each other become one, so that "12:30:01" and "1 h 2 min" are the same.

Three kinds of numbers stay as they are, because they say something: exit codes and the like, the
status of HTTP responses, and zero errors."""

from __future__ import annotations

import re

NUMBER = b"9"  # replaces numbers; a digit, so that the normal form of a normal form is the same
SHAPE_WORDS = 3  # the first ones of a line, which are its shape

# What a terminal does not show as text: escape sequences, and the titles and links among them.
ESCAPE_RE = re.compile(
    rb"\x1b(?:\[[0-?]*+[ -/]*+[@-~]?|\][^\x07\x1b]*+(?:\x07|\x1b\\)?|[ -/]*+[0-~]?)"
)
# A name in a folder for temporary files. The rest of its path can say something.
TEMPORARY_RE = re.compile(
    rb"/(?:var/folders/[^/\s]++/[^/\s]++/T|(?:var/|private/)?tmp|dev/shm)/[^/\s\"'`:;,()\[\]{}<>]*+"
)
# Characters of UTF-8 that draw bars, frames and spinners; typographic quotes, dashes and dots.
DRAWN_RE = re.compile(rb"\xe2(?:\x80[\x80-\xbf]|[\x94-\x96\xa0-\xa3][\x80-\xbf])")
UPPER, LOWER = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ", b"abcdefghijklmnopqrstuvwxyz"
# Punctuation and control characters, but not % (a unit), and not + and !, without which a line
# could be mistaken for its opposite.
SEPARATORS = bytes({*range(128)} - {*b"0123456789_+!%", *UPPER, *LOWER})
SPACES = b"".ljust(len(SEPARATORS))  # one for each separator
TO_WORDS = bytes.maketrans(SEPARATORS + UPPER, SPACES + LOWER)

# Between two words are two spaces. One of them belongs to the word before, so that a match can
# begin with the other: a search for one of eleven bytes is much faster than one for any word.
NAMES = {
    "GROUP": r"WORD UNITS (?: [0-9]++ UNITS | \+[0-9]++ (?![a-z]) UNITS )*+",
    "WORD": r"""(?:
        HEX{2} (?: \ \ HEX{2} END ){5,}+                            # a fingerprint, a MAC address
      | (?=[a-z]*+[0-9]) (?:
            HEX{8}\ \ HEX{4}\ \ HEX{4}\ \ HEX{4}\ \ HEX{12} END    # a UUID
          | g?+ HEX{7,}+ END                                       # a hash
          | 0xHEX++ END                                            # an address
          | (?=[a-z0-9]{8}) [a-z]*+[0-9]++[a-z]++[0-9][a-z0-9]*+   # an ID
          | (?=[0-9]) (?!KEPT) [0-9]++
        )
      | tmp(?: [a-z0-9_]{6,}+ | \ \ [a-z0-9]{8,}+ )                # of Python's tempfile, of mktemp
      | (?: j(?:an(?:uary)?|une?|uly?) | feb(?:ruary)? | m(?:ar(?:ch)?|ay|on(?:day)?)
          | a(?:pr(?:il)?|ug(?:ust)?) | s(?:ep(?:t(?:ember)?)?|at(?:urday)?|un(?:day)?)
          | oct(?:ober)? | nov(?:ember)? | dec(?:ember)?
          | tue(?:sday)? | wed(?:nesday)? | thu(?:rsday)? | fri(?:day)?
        ) (?![a-z0-9_])
      | _++ END                                                    # a rule
    )""",
    "KEPT": r"""(?:
        (?: (?<=\ code\ \ ) | (?<=\ status\ \ ) | (?<=\ exit\ \ ) | (?<=\ errno\ \ )
          | (?<=\ signal\ \ ) ) [0-9]{1,3} END (?! (?:\ \ )? % )
      | (?<=\ http\ \ ) [12] \ \ [01] \ \ [1-5][0-9]{2} END
      | (?<=\ http\ \ [12]\ \ ) [01] \ \ [1-5][0-9]{2} END
      | (?<=\ http\ \ [12]\ \ [01]\ \ ) [1-5][0-9]{2} END
      | (?: (?<=\ errors\ \ ) | (?<=\ failed\ \ ) | (?<=\ failures\ \ )
          | (?<=\ unreachable\ \ ) ) 0 END
      | 0 \ \ (?: errors? | fail(?:ed|ing|ures?) | warnings? ) END
    )""",
    "UNITS": r"""(?: (?: \ \ (?=[a-z%\xc2\xb5]++(?![0-9_])) )?
        (?: %(?![0-9]) | [bdeghkmpstxz] | [num]s | \xc2\xb5s | [kmgt]i?b | bytes? | it
          | st | nd | rd | th | secs? | seconds? | mins? | minutes? | hrs? | hours? | days? | weeks?
          | [ap]m | [ap]\ \ m
        ) (?![a-z_]) )*+""",
    "HEX": r"[0-9a-f]",
    "END": r"(?![a-z0-9])",
}
PATTERN = r"""
    [ 0-9] (?: (?<=\ ) GROUP | (?<=[^ 0-9][0-9]) [0-9]*+ ) (?: \ \ GROUP (?![^ ]) )*+
"""


def insert_names(pattern: str) -> str:
    """The pattern with the patterns that it names."""
    for name, named in NAMES.items():
        pattern = pattern.replace(name, named)
    return pattern


VARYING_RE = re.compile(insert_names(PATTERN).encode("latin-1"), re.VERBOSE)
LETTER_RE = re.compile(rb"[a-z\x80-\xff]")


def normal_line(raw: bytes) -> bytes:
    """What a line of a log says, in a form to compare, not to show: two lines say the same if their
    normal forms are equal."""
    if b"\r" in raw:
        raw = raw.rstrip(b"\r").rpartition(b"\r")[2]
    if b"\x1b" in raw:
        raw = ESCAPE_RE.sub(b"", raw)
    if b"/" in raw:
        raw = TEMPORARY_RE.sub(b"/tmp", raw)
    if b"\xe2" in raw:
        raw = DRAWN_RE.sub(b" ", raw)
    words = raw.translate(TO_WORDS).split()
    return VARYING_RE.sub(NUMBER, b" " + b"  ".join(words)).replace(b"  ", b" ")


def line_key(raw: bytes) -> int:
    """64 bits, the same within one process for lines that say the same. The upper 32 are the shape:
    the first SHAPE_WORDS words, but at most half of the line."""
    normal = normal_line(raw)
    words = normal.replace(NUMBER, b"").split()
    shape = hash(tuple(words[: min(SHAPE_WORDS, len(words) // 2 or 1)])) & 0xFFFF_FFFF
    return shape << 32 | hash(normal) & 0xFFFF_FFFF


def shape_of(key: int) -> int:
    """The shape of the line with this key. One program writes many lines of the same shape."""
    return key >> 32


def has_words(raw: bytes) -> bool:
    """Does a line contain a letter, besides those in numbers, times and hashes?"""
    return LETTER_RE.search(normal_line(raw)) is not None
