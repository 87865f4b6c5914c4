"""The sessions of a jobs folder."""

from __future__ import annotations

import os
from contextlib import suppress

from tailboard import sessions
from tailboard.files import fsync_folder, is_damage, paths_in, read_small, replace_whole
from tailboard.sessions import SHA256_RE, Session


class SessionFiles:
    """The sessions of a jobs folder: sessions/SHA256, named by the hash of the key."""

    def __init__(self, root: str) -> None:
        self.root, self.home = root, f"{root}/sessions"

    def add(self, session: Session) -> None:
        self.make_folder()
        self._remove_old(session.name)
        replace_whole(self._path(session.key_sha256), session.encode(), f"{self.root}/tmp")
        fsync_folder(self.root)

    def make_folder(self) -> None:
        os.makedirs(self.home, mode=0o700, exist_ok=True)

    def _remove_old(self, name: str | None) -> None:
        """Make room for a new session of this name: remove those that have expired or are damaged,
        and the oldest if there are too many, or too many of this name."""
        found: list[Session] = []
        for path in paths_in(self.home):
            session = self.find(os.path.basename(path))
            if session is None:
                with suppress(OSError):
                    os.unlink(path)
            else:
                found.append(session)
        found.sort(key=lambda session: session.expires_at)
        same = [session for session in found if name is not None and session.name == name]
        surplus = found[: max(0, len(found) + 1 - sessions.MAX_SESSIONS)]
        surplus += same[: max(0, len(same) + 1 - sessions.MAX_OF_NAME)]
        for session in surplus:
            self.end(session.key_sha256)

    def find(self, key_sha256: str) -> Session | None:
        if not SHA256_RE.fullmatch(key_sha256):
            return None
        try:
            return Session.parse(key_sha256, read_small(self._path(key_sha256)))
        except OSError as error:
            if not is_damage(error):
                raise
            return None

    def end(self, key_sha256: str) -> None:
        if not SHA256_RE.fullmatch(key_sha256):
            return
        with suppress(FileNotFoundError):
            os.unlink(self._path(key_sha256))
            fsync_folder(self.home)

    def _path(self, key_sha256: str) -> str:
        return f"{self.home}/{key_sha256}"
