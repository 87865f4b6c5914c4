"""The forms of a secret's value that readers mask: what a job typically prints of it.

A form never contains a newline, so each one is found within a line."""

from __future__ import annotations

import json
import math
import re
from base64 import b64encode
from collections.abc import Iterator
from itertools import pairwise
from urllib.parse import quote, quote_plus

LEAST = 4  # bytes of a form
LEAST_BASE64 = 8  # characters of a part of base64: shorter ones would often occur by chance
MOST_ENCODED_LINES = 32  # of a value with more lines, encoded lines are not masked
LONGEST = 1_024  # bytes of a form; longer ones are masked in pieces of this length
# The characters that encoders of URLs leave as they are, besides letters, digits and "-._~".
UNQUOTED = (
    "",  # RFC 3986
    "/",  # Python
    "!'()*",  # encodeURIComponent of JavaScript
    "!'()*#$&+,/:;=?@",  # encodeURI
    "!'()*$%&+,",  # the password of a URL, in browsers and Node.js
    "!'()*$%&+,/:;=@[]^|",  # the path
    "!()*$%&+,/:;=?@[]^|\\`{}",  # the query
    "$&+=:@",  # Go: PathEscape
    "$&+,;=",  # the password of a URL
    "$&+,/:;=@",  # the path
)
IN_GO_JSON = {ord(char): f"\\u{ord(char):04x}" for char in "<>&"}
IN_GSON = {ord(char): f"\\u{ord(char):04x}" for char in "='"}
IN_DOTNET_JSON = {ord(char): f"\\u{ord(char):04X}" for char in "<>&'+`"}
UNICODE_RE = re.compile(r"\\u([0-9a-f]{4})")
IN_DOUBLE_QUOTES_RE = re.compile(rb'[$`"\\]')
PRINTF_Q_RE = re.compile(rb"^[#~]|[^A-Za-z0-9_%+./:=@#~\x80-\xff-]")
BASE64_WIDTHS = (64, 76)  # of the lines of openssl and PEM, and of `base64` and MIME
MOST_WRAPPED = 512  # bytes of a value whose base64 is masked even if its lines end anywhere
LEAST_WRAPPED = 16  # characters of such a line: shorter ones would make each search slower
URLSAFE = bytes.maketrans(b"+/", b"-_")


def forms_of(value: bytes) -> Iterator[bytes]:
    """All forms of a value. Some occur more than once."""
    for form in _whole_forms(value):
        if len(form) >= LEAST:
            yield from _pieces(form)


def _whole_forms(value: bytes) -> Iterator[bytes]:
    lines = [line.strip() for line in value.split(b"\n")]
    lines = [line for line in lines if len(line) >= LEAST]
    yield from lines
    if b"\n" not in value:
        yield value
    encoded = {value, *lines} if len(lines) <= MOST_ENCODED_LINES else {value}
    for text in encoded:
        if len(text) >= LEAST:
            yield from _escaped(text)
            yield from _in_urls(text)
            yield from _in_base64(text)


def _pieces(form: bytes) -> Iterator[bytes]:
    """A form, or pieces that cover all of it. So a part of a very long value is masked, too, and
    reads need not overlap by the length of the value."""
    if len(form) <= LONGEST:
        yield form
        return
    for begin in range(0, len(form) - LONGEST, LONGEST):
        yield form[begin : begin + LONGEST]
    yield form[-LONGEST:]


def _escaped(text: bytes) -> Iterator[bytes]:
    """As in JSON, in a Python message and in the output of a shell."""
    shown = repr(text)[2:-1].encode()  # of bytes
    yield shown.replace(b"\\'", b"'")
    yield shown
    if b"\n" not in text:
        yield text.replace(b"'", b"'\\''")  # `bash -x`
        yield text.replace(b"'", b"'\"'\"'")  # Python's shlex.quote, and dash
        yield IN_DOUBLE_QUOTES_RE.sub(rb"\\\g<0>", text)  # `export -p` in bash
        yield PRINTF_Q_RE.sub(rb"\\\g<0>", text)
    try:
        decoded = text.decode()
    except UnicodeDecodeError:
        return
    yield repr(decoded)[1:-1].encode()
    yield from (form.encode() for form in _in_json(decoded))


def _in_json(text: str) -> Iterator[str]:
    ascii_only = json.dumps(text)[1:-1]
    yield ascii_only
    yield ascii_only.replace("/", "\\/")  # PHP
    plain = json.dumps(text, ensure_ascii=False)[1:-1]
    yield plain
    yield plain.translate(IN_GO_JSON)
    yield plain.translate(IN_GO_JSON | IN_GSON)
    upper_case = UNICODE_RE.sub(lambda found: "\\u" + found[1].upper(), ascii_only)
    yield upper_case.replace('\\"', "\\u0022").translate(IN_DOTNET_JSON)


def _in_urls(text: bytes) -> Iterator[bytes]:
    for form in {*(quote(text, safe) for safe in UNQUOTED), *_in_forms(text)}:
        yield form.encode()
        yield _with_lower_hex(form).encode()


def _in_forms(text: bytes) -> Iterator[str]:
    """As the values of a form or a query: a space is a `+`."""
    yield quote_plus(text)
    yield quote_plus(text).replace("~", "%7E")  # PHP
    yield quote_plus(text, "*").replace("~", "%7E")  # Java, Ruby, URLSearchParams of JavaScript


def _with_lower_hex(quoted: str) -> str:
    """`%2F` as `%2f`."""
    first, *parts = quoted.split("%")
    return "%".join([first, *(part[:2].lower() + part[2:] for part in parts)])


def _in_base64(text: bytes) -> Iterator[bytes]:
    """Alone, with a newline (`echo`), and as a part of a longer text (`user:password`)."""
    for standard in _standard_base64(text):
        yield standard
        yield standard.translate(URLSAFE)


def _standard_base64(text: bytes) -> Iterator[bytes]:
    for whole in (b64encode(text), b64encode(text + b"\n")):
        yield whole
        yield whole.rstrip(b"=")
        for width in BASE64_WIDTHS:
            if len(whole) > width:
                ends = [*range(0, len(whole), width), len(whole)]
                parts = (whole[begin:end] for begin, end in pairwise(ends))
                yield from (part for part in parts if len(part) >= LEAST_BASE64)
    for before in range(3):  # bytes of a longer text that share a group of three with the value
        whole, begin, end = _base64_within(text, before)
        if end - begin >= LEAST_BASE64:
            yield whole[begin:end]
    if len(text) <= MOST_WRAPPED:
        yield from _wrapped_base64(text)


def _wrapped_base64(text: bytes) -> Iterator[bytes]:
    """The same if it is cut into lines, wherever they end: the base64 of `user:TOKEN`, with a long
    token, or of a file that contains it."""
    for width in BASE64_WIDTHS:
        for before in range(width * 6 // 8):  # bytes of the longer text in the same line
            whole, begin, end = _base64_within(text, before)
            ends = [begin, *range(width, end, width), end]
            parts = (whole[start:stop] for start, stop in pairwise(ends))
            yield from (part for part in parts if len(part) >= LEAST_WRAPPED)


def _base64_within(text: bytes, before: int) -> tuple[bytes, int, int]:
    """(base64 of a longer text in which `text` follows so many bytes; where the characters begin
    and end that depend only on `text`). A character is six bits."""
    first_bit, last_bit = 8 * before, 8 * (before + len(text))
    return b64encode(bytes(before) + text), math.ceil(first_bit / 6), last_bit // 6
