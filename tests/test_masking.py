"""Readers mask secrets: which forms of a value, wherever a read begins, and whatever happens to the
log and to the values meanwhile. The logs here are not masked on the disk yet."""

from __future__ import annotations

import base64
import json
import os
import random
import re
import shlex
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote, quote_plus, urlencode

import pytest
from conftest import JobMaker, Site
from flask.testing import FlaskClient
from web import EVENTS, follow, is_problem

from tailboard.folder.claim import Claim
from tailboard.journal import Outcome
from tailboard.log_limit import _punch_hole
from tailboard.logs import FileLog, Log
from tailboard.masking import (
    MASKED_RANGES,
    MOST_FORMS,
    Mask,
    MaskedLog,
    NeedleSearch,
    SecretsDamaged,
    pack_ranges,
    unpack_ranges,
)
from tailboard.notify.message import read_log_end
from tailboard.notify.ping import end_of_log
from tailboard.sealed import KEY_FILE, Sealer
from tailboard.secret_forms import BASE64_WIDTHS, LEAST_WRAPPED, LONGEST, forms_of
from tailboard.status import Status
from tailboard.values import BLOCK
from tailboard.web import log_follow

VALUE = b"hunter2-correct"
STARS = b"*" * len(VALUE)


class SecretJob:
    """A running job with secrets, whose log the test writes."""

    def __init__(self, job_maker: JobMaker, *values: bytes, **fields: Any) -> None:
        self.job_maker = job_maker
        self.claim: Claim = job_maker.running(**fields)
        self.id = self.claim.job.id
        self.folder = Path(self.claim.folder)
        self.claim.seal_secrets(values or (VALUE,))

    def write(self, *parts: bytes) -> None:
        for part in parts:
            self.job_maker.write(self.claim, part)

    def open(self) -> Log:
        return self.job_maker.storage.open_log(self.id)

    def read(self) -> bytes:
        with self.open() as log:
            return log.pread(1 << 30, 0)

    def seal(self, values: dict[str, bytes]) -> None:
        """Replaces the file with the values, as a worker does."""
        (self.folder / "new").write_bytes(Sealer(self.job_maker.storage.root).seal(values))
        (self.folder / "new").rename(self.folder / "secrets")


Make = Callable[..., SecretJob]


@pytest.fixture
def make(job_maker: JobMaker) -> Iterator[Make]:
    made: list[SecretJob] = []

    def make_one(*values: bytes, **fields: Any) -> SecretJob:
        made.append(SecretJob(job_maker, *values, **fields))
        return made[-1]

    yield make_one
    for job in made:
        job.claim.release()


def mask_slowly(values: list[bytes], data: bytes) -> bytes:
    """The definition: a byte is masked if it is part of an occurrence of a form."""
    masked = bytearray(data)
    for form in {form for value in values for form in forms_of(value)}:
        for at in range(len(data) - len(form) + 1):
            if data.startswith(form, at):
                masked[at : at + len(form)] = b"*" * len(form)
    return bytes(masked)


ALPHABETS = (b"ab", b"abc\n", b"ab.*\\(|\n", b"a'\"\\/+= \xff\xc3\xa9", bytes(range(1, 256)))


def random_values(chance: random.Random) -> list[bytes]:
    """Values that overlap, contain each other, have lines, or are no UTF-8."""
    alphabet, longest = chance.choice(ALPHABETS), chance.choice((5, 12, 40))
    return [
        bytes(chance.choices(alphabet, k=chance.randint(4, longest)))
        for _ in range(chance.randint(1, 4))
    ]


def random_log(chance: random.Random, values: list[bytes], pieces: int) -> bytes:
    """Output with whole values, parts of values, and what looks like them."""
    forms = [form for value in values for form in forms_of(value)] or [b"none"]
    log = b""
    for _ in range(pieces):
        form = chance.choice(forms)
        log += bytes(chance.choices(values[0] + b"ab \n", k=chance.randint(0, 12)))
        log += form[: chance.randint(0, len(form))] if chance.random() < 0.4 else form
    return log


# --- What is masked -------------------------------------------------------------------------------


@pytest.mark.parametrize("most_forms", [MOST_FORMS, 0], ids=["forms", "beginnings"])
def test_each_byte_of_each_occurrence_is_masked(
    most_forms: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also if only the beginnings of the forms are searched."""
    monkeypatch.setattr("tailboard.masking.MOST_FORMS", most_forms)
    chance = random.Random(33)
    for _ in range(1_500):
        values = random_values(chance)
        log = random_log(chance, values, chance.randint(0, 12))
        assert Mask(values).apply(log) == mask_slowly(values, log), (values, log)


@pytest.mark.parametrize(
    "values, log, masked",
    [
        ([b"aaaa"], b"baaaaaab", b"b******b"),
        ([b"abcdef", b"defghi"], b"-abcdefghi-", b"-*********-"),
        ([b"abcdefgh", b"cdef"], b"cdef abcdef abcdefgh", b"**** ab**** ********"),
        (
            [b"secret-1", b"secret-10"],
            b"secret-10 secret-1 secret-2",
            b"********* ******** secret-2",
        ),
        ([b"abc"], b"abc", b"abc"),
        ([b"abcd\nefg\n\r\n hijk\r\n"], b"abcd efg hijk", b"**** efg ****"),
        ([b"(a|b)*"], b"(a|b)* aaaa", b"****** aaaa"),
        (["pässwörd".encode()], "x pässwörd".encode(), b"x **********"),
        ([b"\xff\xfe\x80\x81"], b"-\xff\xfe\x80\x81-", b"-****-"),
    ],
)
def test_examples_of_values(values: list[bytes], log: bytes, masked: bytes) -> None:
    assert Mask(values).apply(log) == masked


def run(command: list[str], value: str) -> bytes:
    env = os.environ | {"S": value}
    done = subprocess.run(command, env=env, capture_output=True, check=True, timeout=60)
    return done.stdout + done.stderr


@pytest.mark.parametrize(
    "command",
    [
        'printf "%s" "$S"',
        'printf "%s" "$S" | base64',
        'echo "$S" | base64',
        'printf "%s" "$S" | base64 -w0',
        'printf "%s" "$S" | base64 | tr -d =',
        'printf "%s" "$S" | base64 | tr /+ _-',
        'echo "$S" | base64 -w64',
        'printf "user:%s" "$S" | base64 -w0',
        'printf "user:%s" "$S" | base64',
        'printf "u:%s@host" "$S" | base64 -w0',
        'printf "us:%s@host" "$S" | base64 -w0',
        'printf "us:%s@host" "$S" | base64 -w0 | tr /+ _-',
        'set -x; true "$S"',
        'printf %q "$S"',
        """export -p | sed -n 's/^declare -x S="\\(.*\\)"$/\\1/p'""",
    ],
)
@pytest.mark.parametrize(
    "value", ["it's a/b+c?d&e%f g", '#p$a"b`c\\d!e', "ÿ~?ÿ~?>>>???x" * 9, "c0rrect"]
)
def test_what_programs_make_of_a_value_is_masked(command: str, value: str) -> None:
    if command.startswith(("set -x", "printf %q", "export")) and not value.isascii():
        pytest.skip("shells do not agree on how to print it")
    printed = run(["bash", "-c", command], value)
    masked = Mask([value.encode()]).apply(printed)
    assert len(masked) == len(printed)
    assert masked.count(b"*") >= len(value.encode())
    # In base64, the text around it and up to two characters that it shares with the value.
    rest = masked.translate(None, b"*=\n").removeprefix(b"+ true ").replace(b"'", b"")
    assert len(rest) <= (16 if "user" in command or "@host" in command else 0), masked


@pytest.mark.parametrize("length", [40, 93, 160])
@pytest.mark.parametrize("width", BASE64_WIDTHS)
def test_base64_of_a_longer_text_is_masked_wherever_its_lines_end(length: int, width: int) -> None:
    chance = random.Random(length)
    token = bytes(chance.choices(b"abcdefghijkl0123456789-_", k=length))
    mask = Mask([token])
    for before in range(width):
        text = bytes(before) + token + bytes(80)
        whole = base64.b64encode(text)
        lines = [whole[begin : begin + width] for begin in range(0, len(whole), width)]
        masked = mask.apply(b"\n".join(lines)).split(b"\n")
        # NULs, of which the text around the token consists, are an `A` each, as base64.
        left = [re.sub(b"A{4,}", b"", line).replace(b"*", b"") for line in masked]
        # And up to two characters on each side that it shares with the token.
        assert all(len(part) < LEAST_WRAPPED + 4 for part in left), masked


@pytest.mark.parametrize(
    "encode",
    [
        lambda text: json.dumps(text),
        lambda text: json.dumps({"password": text}, ensure_ascii=False),
        lambda text: repr({"password": text}),
        lambda text: repr(text.encode()),
        shlex.quote,
        quote,
        quote_plus,
        lambda text: quote(text, ""),
        lambda text: urlencode({"password": text}),
        lambda text: re.sub("%..", lambda found: found[0].lower(), quote(text, "")),
    ],
)
@pytest.mark.parametrize("value", ["a\\b\"c'd/e+f", "pass\twörd/x", "first line\nsecond line"])
def test_escaped_forms_are_masked(encode: Callable[[str], str], value: str) -> None:
    if "\n" in value and encode is shlex.quote:
        pytest.skip("it prints the value as lines, which are masked")
    printed = encode(value).encode()
    masked = Mask([value.encode()]).apply(printed)
    assert b"****" in masked
    for left in (b'"', b"'", b"b", b"{", b"}", b"password", b":", b"=", b" "):
        masked = masked.replace(left, b"")
    assert set(masked) == set(b"*"), printed


@pytest.mark.parametrize(
    "printed",
    [
        r"a\"b\\c/d'e\u0026f\u003cg\u003eh=i+jé`k",  # Go
        r"a\"b\\c/d\u0027e\u0026f\u003cg\u003eh\u003di+jé`k",  # Gson
        r"a\u0022b\\c/d\u0027e\u0026f\u003Cg\u003Eh=i\u002Bj\u00E9\u0060k",  # .NET
    ],
)
def test_json_of_other_languages_is_masked(printed: str) -> None:
    mask = Mask(["a\"b\\c/d'e&f<g>h=i+jé`k".encode()])
    assert mask.apply(printed.encode()) == b"*" * len(printed.encode())


@pytest.mark.parametrize(
    "printed",  # as Node.js 20 does
    [
        "aB!x%2Fy*(z)%20~q'%C3%A9%2B%24%26%2C%3B%3D%3A%40",  # encodeURIComponent
        "aB!x/y*(z)%20~q'%C3%A9+$&,;=:@",  # encodeURI
        "aB%21x%2Fy*%28z%29+%7Eq%27%C3%A9%2B%24%26%2C%3B%3D%3A%40",  # URLSearchParams
        "aB!x%2Fy*(z)%20~q'%C3%A9+$&,%3B%3D%3A%40",  # the password of a URL
        "aB!x/y*(z)%20~q'%C3%A9+$&,;=:@",  # its path
        "aB!x/y*(z)%20~q%27%C3%A9+$&,;=:@",  # its query
    ],
)
def test_urls_of_other_languages_are_masked(printed: str) -> None:
    mask = Mask(["aB!x/y*(z) ~q'é+$&,;=:@".encode()])
    assert mask.apply(printed.encode()) == b"*" * len(printed)


def test_a_long_value_and_each_long_part_of_it_are_masked() -> None:
    value = bytes(random.Random(1).choices(b"0123456789abcdef", k=65_536))
    mask = Mask([value])
    assert mask.longest == LONGEST
    assert set(mask.apply(value)) == set(b"*")
    assert set(mask.apply(base64.b64encode(value))) == set(b"*")
    assert set(mask.apply(base64.encodebytes(value))) == set(b"*\n")
    part = value[5 * LONGEST - 10 : 6 * LONGEST + 10]
    assert mask.apply(part) == part[:10] + b"*" * LONGEST + part[-10:]


@pytest.mark.parametrize("length, is_compiled", [(3_000, True), (30_000, False)])
def test_many_long_values_are_masked(length: int, is_compiled: bool) -> None:
    chance = random.Random(2)
    values = [bytes(chance.choices(b"abcdefghijkl", k=length)) for _ in range(32)]
    mask = Mask(values)
    assert len(mask.forms) > MOST_FORMS
    assert (NeedleSearch.make(mask.forms) is not None) == is_compiled, "the test needs more forms"
    log = b"begin " + values[7] + b" middle\n" + values[31] + b" end"
    stars = b"*" * length
    assert mask.apply(log) == b"begin " + stars + b" middle\n" + stars + b" end"


# --- Wherever a read begins -----------------------------------------------------------------------


def test_reads_at_any_place_agree(make: Make) -> None:
    chance = random.Random(4)
    for _ in range(25):
        values = random_values(chance)
        job, data = make(*values), random_log(chance, values, 60)
        job.write(data)
        job.claim.job.status = Status.RUNNING
        whole = mask_slowly(values, data)
        with job.open() as log:
            log.holds_back = False
            assert log.size == len(data)
            for _ in range(400):
                offset, limit = chance.randrange(len(data) + 1), chance.randrange(1, 200)
                assert log.pread(limit, offset) == whole[offset : offset + limit]
                assert log.read(offset, limit) == (offset, whole[offset : offset + limit])


def test_a_follower_of_a_growing_log_never_sees_a_part_of_a_value(make: Make) -> None:
    """After each byte that the job writes, the follower has seen only what is the same in the
    masked whole; at the end it has seen everything."""
    chance = random.Random(5)
    for _ in range(40):
        values = random_values(chance)
        job, data = make(*values), random_log(chance, values, 10)
        job.write(b"")
        whole, seen = mask_slowly(values, data), b""
        with job.open() as log:
            for at in range(len(data)):
                job.write(data[at : at + 1])
                seen += log.read(len(seen), 1 << 20)[1]
                assert seen == whole[: len(seen)], (values, data[: at + 1])
                assert log.size == len(seen)
                assert len(data[: at + 1]) - len(seen) < Mask(values).longest
            log.holds_back = False
            seen += log.read(len(seen), 1 << 20)[1]
        assert seen == whole


def test_only_the_beginning_of_a_value_is_held_back(make: Make) -> None:
    job = make()
    job.write(b"password: hunter2-corr")
    with job.open() as log:
        assert log.pread(100, 0) == b"password: "
        assert log.size == 10
        job.write(b"upt")
        assert log.pread(100, 0) == b"password: hunter2-corrupt"
        job.write(b" hunter2-")
        assert log.size == 26
        job.write(b"correct")
        assert log.pread(100, 0) == b"password: hunter2-corrupt " + STARS


# --- Whatever happens to the log ------------------------------------------------------------------


def test_the_end_of_a_value_whose_beginning_was_freed_is_masked(make: Make) -> None:
    job = make()
    for left in range(len(VALUE)):
        begin = BLOCK - len(VALUE) + left
        with open(job.folder / "output.log", "r+b") as file:
            file.truncate(0)
            file.write(b"x" * begin + VALUE + b" rest\n" + b"y" * BLOCK)
            file.flush()
            os.fsync(file.fileno())
            _punch_hole(file.fileno(), 0, BLOCK)
        shown = b"*" * left if left >= 4 else VALUE[len(VALUE) - left :]
        with job.open() as log:
            assert log.start == BLOCK
            assert log.read(0, left + 5) == (BLOCK, shown + b" rest")
            assert log.read(BLOCK + 2, 1)[1] == (shown + b" rest")[2:3]


def test_a_truncated_log_is_masked_from_its_new_end(make: Make) -> None:
    job = make()
    job.write(b"x" * 100 + VALUE)
    with job.open() as log:
        assert log.size == 100 + len(VALUE)
        os.truncate(job.folder / "output.log", 107)
        assert log.pread(100, 90) == b"x" * 10
        assert log.size == 100  # without the beginning of a value
        assert not log.is_truncated_below(105)
        assert log.is_truncated_below(110)


class Interrupted(Log):
    """A log during whose next read something else happens."""

    def __init__(self, log: FileLog, event: Callable[[], object]) -> None:
        self.log, self.event = log, event

    @property
    def size(self) -> int:
        return self.log.size

    @property
    def start(self) -> int:
        return self.log.start

    @property
    def changed_at(self) -> float:
        return self.log.changed_at

    def samples(self) -> Any:
        return self.log.samples()

    def pread(self, limit: int, offset: int) -> bytes:
        data, event, self.event = self.log.pread(limit, offset), self.event, bool
        event()
        return data


def interrupted_read(job: SecretJob, before: Callable[[], object], after: Any) -> bytes:
    """What a reader gets if one thing happens before it reads the log, and another one after that,
    before it reads the values again."""
    with job.open() as log:
        assert isinstance(log, MaskedLog)
        assert isinstance(log.log, FileLog)
        log.pread(1, 0)
        before()
        log.log, opened = Interrupted(log.log, after), log.log
        data = log.pread(1_000, 0)
        opened.close()
        return data


def test_values_that_an_attempt_adds_are_masked_by_readers_that_are_at_work(make: Make) -> None:
    job = make()
    job.write(VALUE, b"\n")

    def next_attempt() -> None:
        job.claim.seal_secrets([b"other value"])
        job.write(b"the other value\n")

    assert interrupted_read(job, next_attempt, bool) == STARS + b"\nthe ***********\n"
    job.claim.seal_secrets([b"third value"])
    read = interrupted_read(job, bool, next_attempt)
    assert read in (STARS + b"\nthe ***********\n", STARS + b"\nthe ***********\n" * 2)


def test_an_attempt_that_begins_and_ends_during_a_read_shows_nothing(make: Make) -> None:
    job = make()
    job.write(VALUE, b"\n")

    def next_attempt() -> None:
        job.claim.seal_secrets([b"other value"])
        job.write(b"the other value\n")

    def end() -> None:
        job.claim.mask_log()
        (job.folder / "secrets").unlink()

    assert interrupted_read(job, next_attempt, end) == STARS + b"\nthe ***********\n"


def test_the_bytes_are_the_same_after_the_log_is_masked_on_the_disk(make: Make) -> None:
    chance = random.Random(6)
    values = random_values(chance)
    job = make(*values)
    job.write(random_log(chance, values, 50), b"\n")
    with job.open() as before:
        masked = before.pread(1 << 20, 0)
        job.claim.mask_log()
        assert job.read() == before.pread(1 << 20, 0) == masked
        (job.folder / "secrets").unlink()
        assert job.read() == before.pread(1 << 20, 0) == masked
    assert (job.folder / "output.log").read_bytes() == masked


def test_a_reader_keeps_the_values_that_it_knows(make: Make) -> None:
    """For example while the folder is deleted: the values can go first."""
    job = make()
    job.write(b"the ", VALUE, b" hunter2")
    with job.open() as log:
        assert log.size == len(b"the hunter2-correct ")
        (job.folder / "secrets").unlink()
        assert log.pread(100, 0) == b"the " + STARS + b" hunter2"  # nothing follows any more
        assert log.size == len(b"the hunter2-correct hunter2")


@pytest.mark.parametrize("split", range(len(VALUE) + 1))
def test_half_a_value_that_is_being_overwritten_is_masked(make: Make, split: int) -> None:
    job, text = make(), b"the " + VALUE + b" is"
    job.write(text)

    def begin() -> None:
        job.seal({"A": VALUE, MASKED_RANGES: pack_ranges([(4, 4 + len(VALUE))])})
        with open(job.folder / "output.log", "r+b") as file:
            file.seek(4)
            file.write(b"*" * split)

    assert interrupted_read(job, begin, bool) == b"the " + STARS + b" is"
    (job.folder / "output.log").write_bytes(text)
    job.seal({"A": VALUE})
    assert interrupted_read(job, bool, begin) == b"the " + STARS + b" is"


def test_ranges_are_packed_in_order() -> None:
    ranges = [(5, 9), (1 << 40, (1 << 40) + 3), (0, 2)]
    assert unpack_ranges(pack_ranges(ranges)) == sorted(ranges)
    for damaged in (b"", b"x", pack_ranges(ranges)[:-3]):
        with pytest.raises(ValueError):
            unpack_ranges(damaged)


# --- Damaged values -------------------------------------------------------------------------------


def cut_short(job: SecretJob) -> None:
    path = job.folder / "secrets"
    path.write_bytes(path.read_bytes()[:-5])


def replace_by(make_it: Callable[[Path], object]) -> Callable[[SecretJob], None]:
    def replace(job: SecretJob) -> None:
        (job.folder / "secrets").unlink()
        make_it(job.folder / "secrets")

    return replace


def lose_key(job: SecretJob) -> None:
    (Path(job.job_maker.storage.root) / KEY_FILE).unlink()


DAMAGES = {
    "cut short": cut_short,
    "empty": replace_by(Path.touch),
    "a link": replace_by(lambda path: path.symlink_to("job.json")),
    "a dangling link": replace_by(lambda path: path.symlink_to("nothing")),
    "a FIFO": replace_by(lambda path: os.mkfifo(path)),
    "a folder": replace_by(Path.mkdir),
    "plain text": replace_by(lambda path: path.write_bytes(b'{"A": "x"}')),
    "no key": lose_key,
    "damaged ranges": lambda job: job.seal({"A": VALUE, MASKED_RANGES: b"x"}),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_log_whose_values_are_damaged_cannot_be_read(
    make: Make, client: FlaskClient, damage: str
) -> None:
    job = make()
    job.write(b"hint: the password is hunter2-correct\n")
    with job.open() as before:
        DAMAGES[damage](job)
        if damage != "no key":  # which is read only with new values
            with pytest.raises(SecretsDamaged):
                before.pread(10, 0)
    for query in ("", "?follow=1", "?download=1", "?offset=0", "?q=hunter", "?line=1", "?since=1h"):
        is_problem(client.get(f"/jobs/{job.id}/logs{query}"), 503, "its secrets cannot be read")
    found = client.get("/logs?q=hunter2").get_json()
    assert (found["hits"], found["unreadable"]) == ([], [job.id])
    assert client.get(f"/jobs/{job.id}").status_code == 200
    assert job.claim.read_log_end(100) == b""
    store = job.job_maker.storage
    assert read_log_end(store, job.claim.job).lines == []
    assert end_of_log(store, job.id) == b""


# --- Readers over HTTP ----------------------------------------------------------------------------

LINES = (
    b"::group::Connect with hunter2-correct\n",
    b"user=admin password=hunter2-correct retry=1\n",
    b"::result name=hunter2-correct\n",
    b"::error::the password hunter2-correct is refused\n",
    b"Authorization: Basic YWRtaW46aHVudGVyMi1jb3JyZWN0\n",
    b"progress 3/7\n",
)
LEAKS = (b"hunter2", b"unter", b"orrect", b"aHVudGVy")


@pytest.fixture
def served_job(site: Site) -> Iterator[SecretJob]:
    job = SecretJob(site.job_maker, name="with a secret")
    job.write(*LINES)
    yield job
    job.claim.release()


@pytest.mark.parametrize(
    "query",
    """logs logs?tail=3 logs?offset=50 logs?offset=0&limit_bytes=70 logs?line=2 logs?since=1h
    logs?timestamps=1 logs?download=1 logs?q=admin logs?q=pass.*refused&regex=1 logs?q=retry&after=0
    explain explain?parts=results,annotations,sections,progress diff?with={job_id}""".split(),
)
def test_no_answer_contains_a_value(served_job: SecretJob, site: Site, query: str) -> None:
    answer = site.get(f"/jobs/{served_job.id}/{query.format(job_id=served_job.id)}")
    assert answer.status_code == 200, answer.text
    assert not [leak for leak in LEAKS if leak in answer.content], answer.text


def test_each_range_of_a_download_is_masked(served_job: SecretJob, site: Site) -> None:
    path, whole = f"/jobs/{served_job.id}/logs?download=1", mask_slowly([VALUE], b"".join(LINES))
    assert site.get(path).content == whole
    for begin in range(0, len(whole), 7):
        headers = {"Range": f"bytes={begin}-{begin + 9}"}
        answer = site.get(path, headers=headers)
        assert answer.status_code == 206
        assert answer.content == whole[begin : begin + 10]


@pytest.mark.parametrize("extra", ["", "&case=1", "&count=1", "&places=1", "&after=0"])
@pytest.mark.parametrize(
    "text", ["hunter2-correct", "HUNTER2", "hunte", "correct", "aHVudGVyMi1jb3JyZWN0"]
)
def test_a_search_is_no_oracle(served_job: SecretJob, site: Site, text: str, extra: str) -> None:
    found = site.get(f"/jobs/{served_job.id}/logs?q={text}{extra}").json()
    assert not found.get("matches") and not found.get("count") and not found.get("places"), found


@pytest.mark.parametrize("pattern", ["hunter.-", "h[a-z]+2", "=h", "=[a-z]+2", "=[^*]+ retry"])
def test_a_regular_expression_is_no_oracle(served_job: SecretJob, site: Site, pattern: str) -> None:
    query = {"q": pattern, "regex": 1}
    found = site.get(f"/jobs/{served_job.id}/logs", params=query).json()
    assert found["matches"] == []


def test_a_search_of_all_logs_is_no_oracle(served_job: SecretJob, site: Site) -> None:
    assert site.get("/logs?q=hunter2-correct").json()["hits"] == []
    hits = site.get("/logs?q=password=").json()["hits"]
    assert [hit["text"] for hit in hits if hit["job"]["id"] == served_job.id] == [
        f"user=admin password={STARS.decode()} retry=1"
    ]


@pytest.mark.parametrize("headers", [{}, EVENTS], ids=["text", "events"])
def test_a_follower_gets_held_back_bytes_once_they_are_no_value(
    site: Site, headers: dict[str, str]
) -> None:
    job = SecretJob(site.job_maker)
    stream = follow(site, job.id, "&offset=0", **headers)
    job.write(b"first hunter2-")
    stream.has(b"first ")
    job.write(b"correct")
    stream.has(b"first ")
    job.write(b" then hunter2-")
    stream.has(b" then ")
    assert b"hunter" not in stream.data
    job.write(b"x")
    stream.has(b"hunter2-x")
    job.write(b" last hunter2")
    stream.has(b" last ")
    assert stream.data.count(b"hunter2") == 1
    with job.claim as held:
        held.finish(Outcome(Status.SUCCEEDED, 0))
    data = stream.rest()
    assert data.count(b"hunter2") == 1, data
    assert b" last *******" in data or b'"*******"' in data, data
    assert b"correct" not in data
    assert STARS in data


@pytest.mark.parametrize("headers", [{}, EVENTS], ids=["text", "events"])
def test_a_follower_of_an_ended_job_whose_values_remain_gets_its_last_bytes(
    site: Site, headers: dict[str, str]
) -> None:
    """For example because the disk refused to mask the log."""
    job = SecretJob(site.job_maker)
    job.write(b"first hunter2")
    stream = follow(site, job.id, "&offset=0", **headers)
    stream.has(b"first ")
    assert site.get(f"/jobs/{job.id}/logs").headers["X-Log-Size"] == "6"
    with job.claim as held:
        held.leave_unmasked(OSError("a bad sector"))
        held._is_masked = True
        held.finish(Outcome(Status.SUCCEEDED, 0))
    assert b"hunter2" in stream.rest()
    answer = site.get(f"/jobs/{job.id}/logs")
    assert answer.content == b"first hunter2"
    assert answer.headers["X-Log-Complete"] == "true"


def test_held_back_bytes_do_not_keep_a_follower_busy(
    make: Make, client: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between its last byte and the next keep-alive, it reads the log twice at most."""
    monkeypatch.setattr(log_follow, "KEEPALIVE_INTERVAL", 1.1)
    job = make()
    job.write(b"first hunter2")
    reads = 0
    pread = MaskedLog.pread

    def count_reads(log: MaskedLog, limit: int, offset: int) -> bytes:
        nonlocal reads
        reads += 1
        return pread(log, limit, offset)

    monkeypatch.setattr(MaskedLog, "pread", count_reads)
    with client.application.test_request_context():
        chunks = log_follow.follow_log(job.id, 0, False)
        assert next(chunks) == (6, b"first ", None, False)
        reads = 0
        assert next(chunks) == (6, b"", None, False)
        assert reads <= 2
        chunks.close()


def test_hints_messages_and_pings_are_masked(make: Make) -> None:
    job = make()
    job.write(b"x" * 70_000, b"\nerror: password hunter2-correct was refused\n")
    store = job.job_maker.storage
    assert b"hunter2" not in job.claim.read_log_end(70_000)
    for cut in range(1, 60):  # that begin within the value, too
        assert b"rrect" not in job.claim.read_log_end(cut)
    shown = read_log_end(store, job.claim.job)
    assert shown.lines[-1] == f"error: password {STARS.decode()} was refused"
    assert b"hunter2" not in end_of_log(store, job.id)
    assert STARS in end_of_log(store, job.id)
