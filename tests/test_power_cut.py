"""A power cut at any moment, simulated: what the promises are worth, and which fsyncs they need.

`record_life.py` plays scenes of a job's life and records the file operations. From these each
state is built that a cut may leave on the disk, after ALICE (Pillai and others, OSDI 2014): a
prefix of the operations, less some of those that no fsync had made durable by then. Then the
machine starts again, with another boot ID, recovers and claims, and the promises are checked.

The file system that is assumed here promises less than ext4 does:
- What was written to a file is durable after an fsync of that file. Until then each write may be
  lost, or lost but for its first half, or leave zeros, whatever comes of those after it.
- A name (create, mkdir, unlink, rmdir) is durable after an fsync of the folder that holds it. Until
  then each may be lost, whatever comes of the others; an fsync of a file says nothing of its name.
- A rename is durable after an fsync of either folder. It happened or not: a folder is never in two
  places, and one that was moved to where nothing leads any more stands where it stood before.
"""

from __future__ import annotations

import json
import os
import random
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cache
from itertools import combinations
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from conftest import ROOT, clean_environment
from record_life import SCENES

from tailboard.folder.folder_store import FolderStore
from tailboard.job import Job
from tailboard.journal import Outcome, parse_journal
from tailboard.notices import Kind
from tailboard.settings import Settings
from tailboard.status import FINISHED, Status
from tailboard.values import ID_RE
from tailboard.workers import WorkerInfo
from worker import Worker

HOST = socket.gethostname()
BASE = 0  # the number of the folder that holds the storage
MEMORY = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None  # there, fsync takes no time
THREADS = 6  # most of the time is spent waiting for the kernel to close an inotify
FAR = 4e9  # seconds since 1970
PAIRS = 12  # pairs to try at each prefix, unless all are tried
# No promise needs the text of a cancel request: an empty file with a durable name is enough. Only
# the reason that a person gave can be lost.
SUPERFLUOUS = {"fsync jobs/running/ID/cancel"}
NAMES = [scene.__name__ for scene in SCENES]

Operation = dict[str, Any]
Losses = dict[int, str]  # the number of an operation -> how it was lost


# --- Recorded operations --------------------------------------------------------------------------


@cache
def recorded(scene: str) -> list[Operation]:
    """The operations of a scene, as if they had been done before this machine started."""
    with TemporaryDirectory(dir=MEMORY) as base:
        script = str(Path(__file__).with_name("record_life.py"))
        played = subprocess.run(
            [sys.executable, script, scene, base],
            capture_output=True,
            text=True,
            env=clean_environment(base) | {"TALLY": "/dev/null"},
            timeout=200,
        )
    assert played.returncode == 0, played.stderr
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    operations: list[Operation] = json.loads(played.stdout.replace(boot, "f" * len(boot)))
    return operations


def settled(operations: list[Operation]) -> int:
    """The number of operations at the beginning that were durable long before the scene."""
    return next((n for n, o in enumerate(operations) if o["do"] == "settled"), 0)


# --- The file system ------------------------------------------------------------------------------


@dataclass
class Node:
    """A file or a folder, as it is on the disk."""

    is_folder: bool
    mtime: int
    places: list[tuple[int, str] | None] = field(default_factory=list)  # None: unlinked
    content: bytes = b""


Tree = dict[str, Node]  # by path


def is_durable(operations: list[Operation], number: int, cut: int) -> bool:
    """Had an fsync made this operation durable when the power was cut?"""
    operation = operations[number]
    if operation["do"] == "write":
        targets = {operation["node"]}
    else:
        targets = {operation["parent"], operation.get("source", operation["parent"])}
    later = operations[number + 1 : cut]
    return any(o["do"] == "fsync" and o["node"] in targets for o in later)


def at_risk(operations: list[Operation], cut: int) -> list[int]:
    """The operations that a cut may undo, without those on a worker's file: nobody reads the file
    of a dead worker."""
    workers = {o["node"] for o in operations if o.get("name") == "workers"}
    workers |= {o["node"] for o in operations if o.get("parent") in workers}
    return [
        number
        for number in range(settled(operations), cut)
        if operations[number]["do"] in ("name", "move", "unname", "write")
        and operations[number]["node"] not in workers
        and not is_durable(operations, number, cut)
    ]


def nodes_at(operations: list[Operation], cut: int, losses: Losses) -> dict[int, Node]:
    """All files and folders after these operations, without what was lost."""
    nodes = {BASE: Node(True, 0)}
    for number, operation in enumerate(operations[:cut]):
        do, how = operation["do"], losses.get(number)
        if do == "name":
            nodes[operation["node"]] = Node(operation["folder"], operation["mtime"])
        if do == "write":
            write(nodes[operation["node"]], operation, how)
        elif do in ("name", "move") and not how:
            place = operation["parent"], operation["name"]
            nodes[operation["node"]].places.append(place)
        elif do == "unname" and not how:
            nodes[operation["node"]].places.append(None)
    return nodes


def tree_at(operations: list[Operation], cut: int, losses: Losses) -> Tree:
    """The content of the disk after these operations, without what was lost."""
    nodes = nodes_at(operations, cut, losses)
    paths = ((path_of(nodes, number), node) for number, node in nodes.items())
    return {path: node for path, node in paths if path}


def write(node: Node, operation: Operation, how: str | None) -> None:
    data, offset = operation["data"].encode("latin-1"), operation["offset"]
    if how == "lost":
        return
    if how == "halved":
        data = data[: len(data) // 2]
    elif how == "zeros":
        data = bytes(len(data))
    before = node.content.ljust(offset, b"\0")  # the hole that a lost write leaves
    node.content = before[:offset] + data + before[offset + len(data) :]
    node.mtime = operation["mtime"]


def path_of(nodes: dict[int, Node], number: int) -> str:
    """The path of a node below the base; empty if nothing leads to it."""
    for place in reversed(nodes[number].places):
        if place is None:
            return ""
        parent, name = place
        if parent == BASE:
            return name
        if above := path_of(nodes, parent):
            return f"{above}/{name}"
    return ""


def build(tree: Tree, base: Path) -> None:
    """Builds it on the real disk."""
    for path in sorted(tree):
        node = tree[path]
        if node.is_folder:
            (base / path).mkdir()
        else:
            (base / path).write_bytes(node.content)
            os.utime(base / path, ns=(node.mtime, node.mtime))


# --- Promises -------------------------------------------------------------------------------------


@dataclass
class Promises:
    """The responses that clients had received, and the states that they could see, before the
    cut."""

    commands: list[str] = field(default_factory=list)  # asked for
    keys: list[str] = field(default_factory=list)  # asked with; one job in each scene
    answered: dict[str, int] = field(default_factory=dict)  # the ID and how many retries it has
    started: list[tuple[str, int]] = field(default_factory=list)  # may have: ID, attempt
    ended: dict[str, tuple[Status, int | None]] = field(default_factory=dict)
    cancelled: set[str] = field(default_factory=set)
    deleted: set[str] = field(default_factory=set)  # or about to be
    waiting: set[str] = field(default_factory=set)  # in a queue, unclaimed


def promises_at(operations: list[Operation], cut: int) -> Promises:
    made = Promises()
    for number, operation in enumerate(operations[:cut]):
        do = operation["do"]
        if do == "asked":
            made.commands.append(operation["line"])
            made.keys += [operation["key"]] if operation["key"] else []
        elif do == "answered":
            made.answered[operation["id"]] = operation["retries"]
        elif do == "started":
            made.started.append((operation["id"], operation["attempt"]))
        elif do == "cancelled":
            made.cancelled.add(operation["id"])
        elif do == "deleting":
            made.deleted.add(operation["id"])
        elif do == "move":
            made.ended |= ended_in(tree_at(operations, number + 1, {}))
    made.waiting = made.answered.keys() & waiting_in(tree_at(operations, cut, {}))
    return made


def ended_in(tree: Tree) -> dict[str, tuple[Status, int | None]]:
    """The jobs in final folders, as anybody could see them: their status and exit code."""
    found = {}
    for path in tree:
        parts = path.split("/")
        if len(parts) == 4 and parts[1] in FINISHED:
            ended = parse_journal(tree[f"{path}/journal"].content)[-1].ended
            assert ended
            found[parts[3]] = Status(parts[1]), ended.exit_code
    return found


def waiting_in(tree: Tree) -> set[str]:
    """The jobs in a queue that are to be started: not claimed, put back, or to be retried."""
    found = set()
    for path in tree:
        parts = path.split("/")
        if len(parts) == 4 and parts[1] == Status.QUEUED:
            attempt = parse_journal(tree[f"{path}/journal"].content)[-1]
            status = attempt.ended.status if attempt.ended else Status.QUEUED
            if (attempt.ended or attempt.number == 0) and status is not Status.CANCELLED:
                found.add(parts[3])
    return found


# --- The next start of the machine ----------------------------------------------------------------


def recover(root: Path) -> list[tuple[str, int]]:
    """Recovers like a worker, then claims all jobs; returns what would have started: ID,
    attempt."""
    store = FolderStore(root)
    worker = Worker(store, Settings(), True, "leave", WorkerInfo("next", HOST, 1, 1, []))
    started = []
    try:
        recover_orphans(worker)
        running = worker.supervisor.running
        assert not running, f"it is neither over nor alive: {running}"
        while claim := store.claim("next", HOST):
            with claim:
                started.append((claim.job.id, claim.job.attempt))
                claim.finish(Outcome(Status.SUCCEEDED, 0))
        recover_orphans(worker)  # jobs that were put back into running/
    finally:
        for entry in worker.supervisor.running.values():
            entry.claim.release()
        worker.wake_pipe.close()
        worker.selector.close()
        store.close()
    return started


def recover_orphans(worker: Worker) -> None:
    worker.adopt_orphans()
    worker.supervisor.supervise_all()
    worker.supervisor.record_ends()


def work(root: Path, tally: Path) -> list[tuple[str, int]]:
    """Lets a real worker run all jobs; returns what it started."""
    env = clean_environment(root) | {"TALLY": str(tally)}
    command = [sys.executable, "worker.py", "--drain", "--slots", "1"]
    ran = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=200)
    assert ran.returncode == 0 and "Traceback" not in ran.stderr, ran.stderr
    lines = tally.read_text().split("\n") if tally.exists() else []
    return [(line.split()[0], int(line.split()[1])) for line in lines if line]


def check(made: Promises, root: Path, started: list[tuple[str, int]]) -> None:
    """Checks that every promise was kept."""
    store = FolderStore(root)
    places = [path for path in root.glob("*/**") if ID_RE.fullmatch(path.name)]
    here = {path.name for path in places if path.parent.name != "tmp"}
    assert not list(root.glob("set-aside/*")), "one job in several places"
    for job_id in made.answered:
        assert job_id in here or job_id in made.deleted, "what was answered is gone"
    for job_id in here:
        check_job(made, store.get(job_id), [n for i, n in started if i == job_id])
    jobs = [store.get(job_id) for job_id in here]
    for job in jobs:
        is_listed = job.saved is None or job.id in store.saved.runs(job.saved)
        assert is_listed, "it is missing among the runs of its saved command"
        following = [other for other in jobs if job.id in other.after]
        starts_next = job.then is not None and job.status is Status.SUCCEEDED
        assert len(following) == starts_next, f"{len(following)} jobs follow one that {job.status}"
        if job.notify:
            ends = [each.job_id for each in store.notices.requests(FAR) if each.kind is Kind.END]
            is_noticed = job.id in ends or bool(store.notices.load(job.id).notices)
            assert is_noticed, f"nobody is notified that it {job.status}"
    for key in made.keys:
        if here:
            again = store.submit(Job(command="true"), key, "1" * 64)
            assert again.id in here, "the same key gave another job"


def check_job(made: Promises, job: Job, started: list[int]) -> None:
    assert job.version and job.command in made.commands, f"damaged: {job.reason}"
    assert job.status in FINISHED, f"{job.status} is no end"
    attempts = [n for i, n in made.started if i == job.id] + started
    assert len(set(attempts)) == len(attempts), f"started twice: attempts {attempts}"
    allowed = 1 + made.answered.get(job.id, 0)
    assert len(attempts) <= allowed, f"started too often: attempts {attempts}"
    if job.status is Status.LOST and job.cwd is None:  # without its cwd, no retry would succeed
        assert job.attempt == allowed, "it was lost for good with retries left"
    if job.id in made.waiting:
        assert started, "what waited to be started was not"
    if job.id in made.cancelled:
        assert not started, "what was cancelled ran"
        assert job.status is Status.CANCELLED, f"what was cancelled is {job.status}"
    if job.id in made.ended:
        assert not started, "what had ended ran"
        assert made.ended[job.id] == (job.status, job.exit_code), "what had ended is otherwise"


# --- States after a cut ---------------------------------------------------------------------------


def losses_at(operations: list[Operation], cut: int, full: bool) -> Iterator[Losses]:
    """Sets of operations that a cut may undo: none, all, each alone in each way, all but one, and
    pairs."""
    numbers = at_risk(operations, cut)
    yield {}
    yield dict.fromkeys(numbers, "lost")
    for number in numbers:
        yield {number: "lost"}
        yield {other: "lost" for other in numbers if other != number}
        if operations[number]["do"] == "write":
            yield {number: "halved"}
            yield {number: "zeros"}
    pairs = list(combinations(numbers, 2))
    if not full:
        pairs = random.Random(cut).sample(pairs, min(PAIRS, len(pairs)))
    for pair in pairs:
        yield dict.fromkeys(pair, "lost")


@dataclass
class State:
    """A state that a cut may leave."""

    operations: list[Operation]
    cut: int
    losses: Losses

    @property
    def tree(self) -> Tree:
        return tree_at(self.operations, self.cut, self.losses)

    @property
    def promises(self) -> Promises:
        return promises_at(self.operations, self.cut)

    def fingerprint(self, made: Promises) -> str:
        """Equal for states that look the same and with the same responses."""
        tree = self.tree
        return f"{made} {[(path, tree[path].content) for path in sorted(tree)]}"

    def __str__(self) -> str:
        last = describe(self.operations, self.cut - 1) if self.cut else "the beginning"
        lost = [f"{describe(self.operations, n)} ({how})" for n, how in self.losses.items()]
        return f"cut after {last}; lost: {', '.join(lost) or 'nothing'}"


def describe(operations: list[Operation], number: int) -> str:
    """An operation in words, with its path at that time, without anything specific to this run."""
    operation = operations[number]
    if "node" not in operation:
        return f"{number} {operation['do']}"
    before = nodes_at(operations, number, {})
    after = nodes_at(operations, number + 1, {})
    path = path_of(after, operation["node"]) or path_of(before, operation["node"])
    words = f"{operation['do']} {anonymous(path)}"
    if path.endswith("journal"):
        text = operation.get("data") or after[operation["node"]].content.decode("latin-1")
        words += f" ({last_key(text)})"
    return f"{number} {words}"


def anonymous(path: str) -> str:
    """A path without ID, key, day and queue."""
    path = re.sub(ID_RE.pattern, "ID", path)
    path = re.sub("/[0-9a-f]{64}", "/KEY", path)
    path = re.sub("/[0-9]{8}(?=/|$)", "/DAY", path)
    return re.sub("/(default|gpu)(?=/|$)", "/QUEUE", path)


def last_key(journal: str) -> str:
    lines = [json.loads(line) for line in journal.split("\n") if line]
    if not lines:
        return "empty"
    key, value = next(iter(lines[-1].items()))
    is_put_back = key == "ended" and value["status"] == Status.QUEUED
    return "put back" if is_put_back else str(key)


def broken_promise(state: State, made: Promises) -> str | None:
    """The outcome of the next start in this state, if it breaks a promise."""
    with TemporaryDirectory(dir=MEMORY) as base:
        build(state.tree, Path(base))
        root = Path(base) / "jobs"
        try:
            check(made, root, recover(root))
        except (AssertionError, OSError) as error:
            return f"{str(error).partition(chr(10))[0]}; {state}"
    return None


# --- The tests ------------------------------------------------------------------------------------


def states_of(operations: list[Operation], full: bool) -> Iterator[tuple[State, Promises]]:
    """All states that a cut in this scene may leave, each once."""
    seen: set[str] = set()
    for cut in range(settled(operations), len(operations) + 1):
        made = promises_at(operations, cut)
        for losses in losses_at(operations, cut, full):
            state = State(operations, cut, losses)
            fingerprint = state.fingerprint(made)
            if fingerprint not in seen:
                seen.add(fingerprint)
                yield state, made


@pytest.mark.timeout(1200)
@pytest.mark.parametrize("scene", NAMES)
def test_no_power_cut_breaks_a_promise(scene: str, full: bool) -> None:
    operations = recorded(scene)
    states = list(states_of(operations, full))
    with ThreadPoolExecutor(THREADS) as pool:
        answers = pool.map(lambda pair: broken_promise(*pair), states)
        broken = [answer for answer in answers if answer]
    print(f"{scene}: {len(operations)} operations, {len(states)} states")
    assert not broken, f"{len(broken)} of {len(states)} states:\n" + "\n".join(broken[:5])


@pytest.mark.parametrize("scene", NAMES)
def test_a_real_worker_keeps_the_promises_after_a_cut(scene: str) -> None:
    """The cut happens at one moment after the last response, with two losses."""
    operations = recorded(scene)
    marks = [n for n, o in enumerate(operations) if o["do"] in ("answered", "cancelled")]
    cut = random.Random(scene).randint(marks[-1] + 1, len(operations))
    numbers = at_risk(operations, cut)
    losses = dict.fromkeys(random.Random(scene).sample(numbers, min(2, len(numbers))), "lost")
    state = State(operations, cut, losses)
    with TemporaryDirectory(dir=MEMORY) as base:
        root = Path(base) / "jobs"
        build(state.tree, Path(base))
        started = work(root, Path(base) / "tally")
        check(state.promises, root, started)


def without(operations: list[Operation], number: int) -> list[Operation]:
    return [*operations[:number], {"do": "nothing"}, *operations[number + 1 :]]


def newly_at_risk(operations: list[Operation], number: int) -> Iterator[State]:
    """States that a cut may leave only if this fsync is omitted: what it made durable is lost, in
    whole or in part, alone, with each other operation that may be lost, and with all of them."""
    fewer = without(operations, number)
    for cut in range(number + 1, len(operations) + 1):
        others = at_risk(operations, cut)
        more = [n for n in at_risk(fewer, cut) if n not in others]
        if not more:
            continue
        for lost in ([], others, *([other] for other in others)):
            yield State(fewer, cut, dict.fromkeys([*more, *lost], "lost"))
        for one in more:
            for how in ("lost", "halved", "zeros"):
                if how == "lost" or fewer[one]["do"] == "write":
                    yield State(fewer, cut, {one: how})


def is_needed(operations: list[Operation], number: int) -> bool:
    """Does leaving out this fsync break a promise that holds with it?"""
    for state in newly_at_risk(operations, number):
        made = state.promises
        if broken_promise(state, made):
            others = at_risk(operations, state.cut)
            losses = {n: how for n, how in state.losses.items() if n in others}
            if not broken_promise(State(operations, state.cut, losses), made):
                return True
    return False


def fsyncs_by_kind() -> dict[str, list[tuple[list[Operation], int]]]:
    """The fsyncs of all scenes, grouped by what they made durable."""
    found: dict[str, list[tuple[list[Operation], int]]] = {}
    for operations in map(recorded, NAMES):
        for number, operation in enumerate(operations):
            if operation["do"] == "fsync":
                kind = describe(operations, number).partition(" ")[2]
                found.setdefault(kind, []).append((operations, number))
    return found


@pytest.mark.timeout(1200)
def test_each_fsync_is_needed_for_a_promise() -> None:
    """Each is needed in at least one scene."""
    kinds = fsyncs_by_kind()
    with ThreadPoolExecutor(THREADS) as pool:
        answers = pool.map(lambda fsyncs: any(is_needed(*f) for f in fsyncs), kinds.values())
        superfluous = {kind for kind, needed in zip(kinds, answers, strict=True) if not needed}
    print(f"kinds of fsyncs: {sorted(kinds)}")
    assert superfluous == SUPERFLUOUS
