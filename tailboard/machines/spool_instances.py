"""The file `instances` of a spool: which runs of its relay have used this very folder."""

from __future__ import annotations

import json
import os
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any

from tailboard.files import open_private, read_small
from tailboard.logs import LAST_SIZE
from tailboard.machines.messages import Instance
from tailboard.values import FULL_ERRNOS, known_fields, whole_number

INSTANCES_KEPT = 20  # runs of its relay that a spool remembers


@dataclass(slots=True)
class SpoolUse:
    """The content of the file, except for what differs in a copy of the folder."""

    names: list[str]  # of the last instances, the newest last
    admitted: bool  # Redis has accepted one
    beats: int = 0  # see Instance
    epoch: str = ""  # see Instance


class SpoolInstances:
    """Remembers the instances of a spool's relay, so that a copy of the spool is recognized: Redis
    must not accept a copy, whose jobs another machine runs."""

    def __init__(self, root: str, spool: str, boot: str) -> None:
        """`spool`: the name of the spool; `boot`: the ID of the machine's boot."""
        self.root, self.spool, self.boot = root, spool, boot

    def begin(self) -> Instance:
        """Begin a new run of the relay. The caller has the relay's lock."""
        use = self._read()
        instance = Instance(os.urandom(8).hex(), beats=use.beats, epoch=use.epoch)
        self.save(instance, use.admitted)
        return instance

    def save(self, instance: Instance, admitted: bool) -> None:
        """Store that this instance runs in this very folder, and whether Redis has accepted it. Not
        fsynced: after a power cut the machine has another boot ID."""
        names = [name for name in self._read().names if name != instance.name]
        names = [*names[-INSTANCES_KEPT:], instance.name]
        use = SpoolUse(names, admitted, instance.beats, instance.epoch)
        draft = f"{self.root}/tmp/instances-{os.urandom(4).hex()}"
        try:
            with open(draft, "x", opener=open_private) as file:
                json.dump(asdict(use) | self._identity() | {"spool": self.spool}, file)
            os.rename(draft, f"{self.root}/instances")
        except OSError as error:  # a worker must also start on a full disk
            if error.errno not in FULL_ERRNOS:
                raise
            with suppress(OSError):
                os.unlink(draft)

    def is_admitted(self) -> bool:
        """Has Redis accepted an instance of this very folder? Until then, the folder may be a
        copy."""
        return self._read().admitted

    def has_run(self, instance: str) -> bool:
        """Has this instance run in this very folder? It has ended then, since it no longer holds
        the relay's lock."""
        return instance in self._read().names

    def _read(self) -> SpoolUse:
        """The stored use of this folder. In a copy, or after a restart of the machine, no instance
        is known. Under a new name, no report is known: Redis does not know that name."""
        with suppress(OSError, ValueError, TypeError, RecursionError):
            record = json.loads(read_small(f"{self.root}/instances"))
            use = SpoolUse(**known_fields(SpoolUse, record))
            names = use.names if isinstance(use.names, list) else []
            identity = self._identity()
            is_here = {name: record.get(name) for name in identity} == identity
            seen = 0, ""
            if record.get("spool") == self.spool:
                seen = whole_number(use.beats, 0, LAST_SIZE), str(use.epoch)
            return SpoolUse(names if is_here else [], is_here and use.admitted is True, *seen)
        return SpoolUse([], False)

    def _identity(self) -> dict[str, Any]:
        """What differs in every copy of this folder: on one file system its inode, on another
        machine the ID of the boot. It also changes with a restart of the machine."""
        found = os.stat(self.root)
        return {"boot": self.boot, "device": found.st_dev, "inode": found.st_ino}
