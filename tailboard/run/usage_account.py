"""How much processor time an attempt has used, although its processes come and go. Pure: it reads
nothing."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping

from tailboard.run.process_states import ProcessState


class UsageAccount:
    """Adds up the processor time of the processes of one attempt, from one look at them to the
    next.

    The kernel adds the time of a child to that of its parent once the parent has waited for it. The
    child was counted while it was alive, so the parent's increase counts only as far as it exceeds
    that. The time of a process for which no other waits, such as a daemon, stays as it was last
    seen. So the sum never decreases, and counts nothing twice."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.memory_bytes = 0  # of the living processes
        self.states: Mapping[int, ProcessState] = {}  # by pid, as last seen

    def update(self, states: Mapping[int, ProcessState]) -> None:
        """Count what the processes have used since the last look. `states`: all living processes of
        the attempt, and zombies."""
        counted = self._counted_in_ended(states)
        for pid, state in states.items():
            before = self._same_process(pid, state)
            if before is None:
                self.seconds += state.seconds
                continue
            waited = state.waited_seconds - before.waited_seconds
            self.seconds += max(0.0, state.own_seconds - before.own_seconds)
            self.seconds += max(0.0, waited - counted[pid])
        self.states = states
        self.memory_bytes = sum(state.memory_bytes for state in states.values())

    def final_seconds(self, leader: int, reported: float) -> float:
        """What the attempt used in all. `reported`: the time of its ended shim, whose pid is
        `leader`, and of all descendants that were waited for; the system knows it exactly."""
        inside = sum(
            state.seconds for pid, state in self.states.items() if self._descends(pid, leader)
        )
        return max(self.seconds, self.seconds - inside + reported)

    def _same_process(self, pid: int, state: ProcessState) -> ProcessState | None:
        """The earlier state of the same process; None if it is new."""
        before = self.states.get(pid)
        return before if before is not None and before.start == state.start else None

    def _counted_in_ended(self, states: Mapping[int, ProcessState]) -> Mapping[int, float]:
        """The seconds that were counted for processes which have ended since, by the pid of the
        nearest living ancestor, which may have waited for them or for their parents."""
        living = {pid for pid, state in states.items() if self._same_process(pid, state)}
        counted: dict[int, float] = defaultdict(float)
        for pid in self.states.keys() - living:
            ancestor = self.states[pid].parent
            for _ in self.states:  # at most: a pid that is used again could make a circle
                if ancestor in living or ancestor not in self.states:
                    break
                ancestor = self.states[ancestor].parent
            counted[ancestor] += self.states[pid].seconds
        return counted

    def _descends(self, pid: int, leader: int) -> bool:
        """Is a process the leader, or one of its descendants?"""
        for _ in self.states:
            if pid == leader or pid not in self.states:
                break
            pid = self.states[pid].parent
        return pid == leader
