"""Masks the values of secrets in logs: each byte of a value becomes a `*`, so no offset changes."""

from __future__ import annotations

import errno
import os
import stat
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from urllib.parse import quote, quote_plus

from tailboard.logs import Log, SizeSamples

LEAST = 4  # bytes of a value, or of a line of one, that is masked


class Mask:
    """Masks values. A byte is masked if it is part of any occurrence of a value, or of one of its
    encoded forms; so what is masked does not depend on where a read begins."""

    def __init__(self, values: Iterable[bytes]) -> None:
        forms = {form for value in values for form in forms_of(value)}
        self.forms = sorted(forms, key=len, reverse=True)
        self.longest = len(self.forms[0]) if self.forms else 0  # 0: nothing is masked

    def apply(self, data: bytes) -> bytes:
        """The data with each value replaced by as many `*` as it has bytes."""
        masked: bytearray | None = None
        for form in self.forms:
            at = data.find(form)
            while at >= 0:
                masked = bytearray(data) if masked is None else masked
                masked[at : at + len(form)] = b"*" * len(form)
                at = data.find(form, at + 1)
        return data if masked is None else bytes(masked)

    def held_back(self, end: bytes) -> int:
        """How many bytes at the end of a growing log could be the beginning of a value. `end`: the
        last `longest` - 1 bytes of the log, or all of it."""
        for length in range(min(len(end), self.longest - 1), 0, -1):
            last = end[-length:]
            if any(form.startswith(last) and len(form) > length for form in self.forms):
                return length
        return 0


def forms_of(value: bytes) -> Iterator[bytes]:
    """The forms of a value that are masked: each of its lines, and those in base64 and in URLs."""
    for text in {value, *value.split(b"\n")}:
        line = text.strip(b"\r\n")
        encoded = (b64encode(line), urlsafe_b64encode(line), quote(line, "").encode())
        for form in (line, *encoded, quote_plus(line).encode()):
            if len(form) >= LEAST and b"\n" not in form and len(line) >= LEAST:
                yield form


class SecretsDamaged(OSError):
    """The values that a job's log must not show cannot be read, so neither can its log."""

    def __init__(self, path: str) -> None:
        super().__init__(errno.EIO, "its secrets cannot be read, so its log cannot be masked", path)


class MaskedLog(Log):
    """The log of a job that has secrets, until its log is masked on the disk."""

    def __init__(
        self, log: Log, folder: int, unseal: Callable[[bytes], Mapping[str, bytes]]
    ) -> None:
        """`folder`: a descriptor of the job's folder, which this object closes."""
        self.log, self.folder, self.unseal = log, folder, unseal
        self.holds_back = True  # False: nothing more is written to the log
        self.mask = Mask(())
        self._stamp: tuple[int, ...] = ()  # of the file `secrets` when it was read
        self._is_final = False  # the log was masked on the disk
        try:
            self._refresh()
        except BaseException:
            os.close(folder)
            raise

    def _refresh(self) -> None:
        """Read the values again if they have changed: each attempt of the job can add some."""
        try:
            found = os.stat("secrets", dir_fd=self.folder, follow_symlinks=False)
        except FileNotFoundError:
            self._is_final = True
            return
        stamp = found.st_ino, found.st_mtime_ns, found.st_size
        if stamp == self._stamp:
            return
        if not stat.S_ISREG(found.st_mode):
            raise SecretsDamaged("secrets")
        fd = os.open("secrets", os.O_RDONLY | os.O_NOFOLLOW, dir_fd=self.folder)
        with open(fd, "rb") as file:
            try:
                self.mask, self._stamp = Mask(self.unseal(file.read()).values()), stamp
            except ValueError:
                raise SecretsDamaged("secrets") from None

    @property
    def size(self) -> int:
        """Of a growing log, without the bytes at its end that could be the beginning of a value."""
        self._refresh()
        size = self.log.size
        if self._is_final or not self.holds_back or self.mask.longest < 2:
            return size
        length = min(size, self.mask.longest - 1)
        return size - self.mask.held_back(self.log.pread(length, size - length))

    @property
    def start(self) -> int:
        return self.log.start

    @property
    def changed_at(self) -> float:
        return self.log.changed_at

    def is_truncated_below(self, offset: int) -> bool:
        return self.log.is_truncated_below(offset)

    def pread(self, limit: int, offset: int) -> bytes:
        size = self.size  # reads the values
        around = max(0, self.mask.longest - 1)
        begin = max(0, offset - around)
        data = self.log.pread(offset - begin + limit + around, begin)
        masked = self.mask.apply(data)
        return masked[offset - begin :][: max(0, min(limit, size - offset))]

    def samples(self) -> SizeSamples:
        return self.log.samples()

    def close(self) -> None:
        self.log.close()
        with suppress(OSError):
            os.close(self.folder)
