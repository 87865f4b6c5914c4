"""The presence of a machine: reports that it is alive, and makes sure that its spool has no second
instance."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from tailboard.machines import redis_machines
from tailboard.machines.messages import Instance, MachineOrders, SpoolInUse
from tailboard.machines.relay_store import RelayStore
from tailboard.machines.spool import Spool
from tailboard.workers import WorkerInfo

SPOOL_COPIED = (
    "another worker uses a copy of the spool {0}: delete the file {0}/name, or set TAILBOARD_SPOOL "
    "to an empty folder"
)


class SpoolCopied(Exception):
    """This spool is a copy of another one that is in use."""


@dataclass
class Rival:
    """Another instance that reports for this spool: an earlier one of this folder, which ended
    unnoticed, or the instance of a copy."""

    instance: str
    beats: int  # the number of its last report
    since: float  # when we noticed that report, on the monotonic clock
    reports: int = 0  # since we first noticed the instance


class Presence:
    """Reports to Redis that this machine is alive. Each run of the relay is an instance of the
    spool, and Redis accepts one instance at a time."""

    def __init__(self, store: RelayStore, spool: Spool) -> None:
        self.store, self.spool = store, spool
        self.instance: Instance | None = None  # None: not begun
        self.is_admitted = False  # Redis has accepted this instance
        self.rival: Rival | None = None

    def report(self, workers: Sequence[WorkerInfo]) -> MachineOrders:
        """Report that this machine is alive and has these workers. Returns its orders. SpoolInUse
        while another instance of its spool may be alive; SpoolCopied once one is known to be."""
        if self.instance is None:
            self.instance = self.spool.instances.begin()
        try:
            orders = self.store.beat(self.spool.name, workers, self.instance)
        except SpoolInUse as other:
            has_ended = self.spool.instances.has_run(other.instance)
            if not has_ended and self._observe(other) < redis_machines.INSTANCE_SILENCE:
                raise
            orders = self.store.beat(self.spool.name, workers, self.instance, other.instance)
        self.rival = None
        if not self.is_admitted:
            self.spool.instances.save(self.instance, True)
            self.is_admitted = True
        return orders

    def _observe(self, other: SpoolInUse) -> float:
        """Note what another instance has reported; returns for how many seconds it has been silent
        since. SpoolCopied if it has reported twice since we noticed it: one report may have been on
        its way when that instance was killed."""
        now, rival = time.monotonic(), self.rival
        if rival is None or rival.instance != other.instance:
            rival = self.rival = Rival(other.instance, other.beats, now)
        elif rival.beats != other.beats:
            rival.beats, rival.since, rival.reports = other.beats, now, rival.reports + 1
        if rival.reports > 1:
            raise SpoolCopied(SPOOL_COPIED.format(self.spool.root))
        return now - rival.since

    def save(self) -> None:
        """Store the number of the last accepted report in the spool."""
        if self.instance is not None and self.is_admitted:
            self.spool.instances.save(self.instance, True)

    def end(self, workers: Sequence[WorkerInfo]) -> None:
        """Report the workers that remain, as the relay ends."""
        self.store.beat(self.spool.name, workers, self.instance)
