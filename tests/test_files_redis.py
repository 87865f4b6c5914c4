"""The files of jobs on several machines: sent to Redis when a job has ended, or left where they
are."""

from __future__ import annotations

import json
import os
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from conftest import Gate, RedisServer, quick_worker, wait_until
from machines import RedisMachine
from proxy import Proxy
from redis_team import Team

from tailboard.errors import FilesElsewhere, JobNotFound
from tailboard.folder.claim import Claim
from tailboard.job import Job
from tailboard.job_files import FileKind
from tailboard.journal import Outcome
from tailboard.machines import file_pack
from tailboard.machines.file_pack import CHUNK, PackedListing, decode_listing
from tailboard.machines.reader_lease import READER_LEASE
from tailboard.machines.redis_machines import RedisMachines
from tailboard.status import Status
from tailboard.usage import USAGE_RECORD, UsageSample

CONTENTS = {
    b"a.txt": b"hello\n",
    b"empty": b"",
    b"sub/\xff \n.bin": os.urandom(3 * CHUNK + 17),
    b"sub/deep/b": os.urandom(CHUNK),
}


def put(folder: str | Path, contents: dict[bytes, bytes]) -> None:
    """Writes files into the folder of a job."""
    for path, content in contents.items():
        place = os.fsencode(f"{folder}/files/") + path
        os.makedirs(os.path.dirname(place), exist_ok=True)
        with open(place, "wb") as file:
            file.write(content)


def read(store: RedisMachines, job_id: str, path: bytes) -> bytes:
    with store.open_file(job_id, path) as file:
        parts, offset = [], 0
        while data := file.read(offset, 1 << 16):
            parts.append(data)
            offset += len(data)
        assert offset == file.size
        return b"".join(parts)


def contents(store: RedisMachines, job_id: str) -> dict[bytes, bytes]:
    """All files of a job, as readers of Redis see them."""
    listing = store.list_files(job_id)
    files = [entry for entry in listing.entries if entry.kind is FileKind.FILE]
    found = {entry.path: read(store, job_id, entry.path) for entry in files}
    assert {entry.path: entry.size for entry in files} == {p: len(c) for p, c in found.items()}
    return found


@pytest.fixture
def machine(redis_url: str, tmp_path: Path) -> Iterator[RedisMachine]:
    machine = RedisMachine(redis_url, str(tmp_path / "spool"))
    machine.listen(())
    yield machine
    machine.close()


@pytest.fixture
def proxy(redis: RedisServer) -> Iterator[Proxy]:
    proxy = Proxy(redis.port)
    yield proxy
    proxy.close()


@pytest.fixture
def start(machine: RedisMachine) -> Callable[..., Claim]:
    """Starts a job on the machine."""

    def start(**fields: object) -> Claim:
        machine.submit(Job(**{"command": "true"} | fields))  # type: ignore[arg-type]
        claim = machine.claim("worker", "host")
        assert claim is not None
        return claim

    return start


def finish(claim: Claim) -> str:
    with claim:
        return claim.finish(Outcome(Status.SUCCEEDED, 0)).id


def finish_with_files(start: Callable[..., Claim]) -> str:
    """Runs a job that leaves CONTENTS."""
    claim = start()
    put(claim.folder, CONTENTS)
    return finish(claim)


def requeue(claim: Claim) -> str:
    with claim:
        return claim.requeue(Outcome(Status.FAILED, 1)).id


@pytest.fixture
def one_chunk_a_round(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tailboard.machines.file_sender.MOST_SENT", CHUNK)


def send_a_part(machine: RedisMachine, job_id: str) -> None:
    """Runs rounds until Redis has some chunks of the files, but not all."""
    machine.relay.next_beat = 0.0
    for _ in range(3):
        machine.relay.round()
    assert stored(machine, job_id).keys() & {b"0", b"next"} == {b"0", b"next"}
    assert machine.redis.status(job_id) is Status.RUNNING, "its end is reported later"
    with pytest.raises(FilesElsewhere):
        machine.redis.list_files(job_id)


def stored(machine: RedisMachine, job_id: str) -> dict[bytes, bytes]:
    """All that Redis has of the files of a job."""
    link = machine.redis.link
    return dict(link.ask(("HGETALL", link.key(f"files:{job_id}")))[0])


# --- Sent and read --------------------------------------------------------------------------------


def test_files_can_be_read_from_redis_once_the_job_has_ended(
    machine: RedisMachine, start: Callable[..., Claim]
) -> None:
    claim = start()
    put(claim.folder, CONTENTS)
    os.symlink("/etc/passwd", f"{claim.folder}/files/link")
    job_id = claim.job.id
    machine.sync()
    for call in (machine.redis.list_files, lambda i: machine.redis.open_file(i, b"a.txt")):
        with pytest.raises(FilesElsewhere) as error:
            call(job_id)
        assert str(error.value) == (
            f"job {job_id} runs on host; its files are there in "
            f"{machine.spool.root}/running/{job_id}/files, and are sent when it has ended"
        )
    finish(claim)
    machine.sync()
    listing = machine.redis.list_files(job_id)
    assert listing == machine.spool.list_files(job_id)
    assert {e.kind for e in listing.entries} == {FileKind.FILE, FileKind.FOLDER, FileKind.LINK}
    assert contents(machine.redis, job_id) == CONTENTS
    assert machine.redis.sent_bytes([job_id, "absent"]) == {
        job_id: sum(map(len, CONTENTS.values()))
    }


def test_many_small_files_are_read_in_several_rounds(
    machine: RedisMachine, start: Callable[..., Claim], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tailboard.machines.file_sender.READ_TIME", 0.0)
    claim = start()
    small = {b"%03d" % number: b"x" * (number % 3) for number in range(60)}
    put(claim.folder, small)
    job_id = finish(claim)
    machine.relay.next_beat = 0.0
    for _ in range(20):
        machine.relay.round()
    assert machine.redis.status(job_id) is Status.RUNNING
    machine.sync()
    assert contents(machine.redis, job_id) == small


def test_only_the_chunks_that_are_needed_are_read(
    machine: RedisMachine, start: Callable[..., Claim], monkeypatch: pytest.MonkeyPatch
) -> None:
    claim = start()
    content = os.urandom(5 * CHUNK)
    put(claim.folder, {b"before": b"12345", b"x": content})
    job_id = finish(claim)
    machine.sync()
    link = machine.redis.link
    link.ask(*(("HDEL", link.key(f"files:{job_id}"), place) for place in (0, 2, 3, 4, 5)))
    with machine.redis.open_file(job_id, b"x") as file:
        assert file.read(2 * CHUNK - 105, 100) == content[2 * CHUNK - 105 :][:100]
        with pytest.raises(OSError, match="part of its files is missing"):
            file.read(2 * CHUNK - 105, 101)
        assert file.read(5 * CHUNK, 10) == b""
        monkeypatch.setattr("tailboard.machines.redis_files.CHUNKS_AT_ONCE", 1)
        assert file.read(CHUNK - 5, 9 * CHUNK) == content[CHUNK - 5 :][:CHUNK], "in few parts"


def test_few_listings_are_remembered_and_only_the_newest_of_a_job(
    machine: RedisMachine, start: Callable[..., Claim], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tailboard.machines.redis_files.LISTINGS_KEPT", 1)
    ids = []
    for content in (b"one", b"two"):
        claim = start()
        put(claim.folder, {b"a": content})
        ids.append(finish(claim))
    machine.sync()
    assert [contents(machine.redis, each)[b"a"] for each in ids] == [b"one", b"two"]
    assert machine.redis.files.loaded.keys() == {ids[1]}
    (Path(machine.spool.locate(ids[1])[1]) / "files/a").write_bytes(b"other")
    machine.redis.link.client.flushall()  # then they are sent again
    machine.sync()
    assert contents(machine.redis, ids[1]) == {b"a": b"other"}


def test_a_job_without_files_costs_nothing_in_redis(
    machine: RedisMachine, start: Callable[..., Claim]
) -> None:
    job_id = finish(start())
    machine.sync()
    assert machine.redis.list_files(job_id).entries == []
    assert stored(machine, job_id) == {}
    with pytest.raises(FileNotFoundError):
        machine.redis.open_file(job_id, b"a")


def test_a_deleted_job_leaves_no_files_on_its_machine_or_in_redis(
    machine: RedisMachine, start: Callable[..., Claim]
) -> None:
    ids = []
    for _ in range(2):
        claim = start()
        put(claim.folder, CONTENTS)
        write_usage(claim.folder, 3)
        ids.append(finish(claim))
    machine.sync()
    link = machine.redis.link
    assert all(link.ask(*(("EXISTS", link.key(f"files:{i}"), link.key(f"usage:{i}")) for i in ids)))
    with machine.redis.open_file(ids[0], b"a.txt") as file:
        machine.redis.delete(ids[0])
        with pytest.raises(OSError, match="was deleted while it was read"):
            file.read(0, 1)
    # As an API of an earlier version deletes it:
    link.ask(
        *(("UNLINK", link.key(f"{kind}:{ids[1]}")) for kind in ("job", "state")),
        ("SADD", link.key(f"gone:{machine.spool.name}"), ids[1]),
    )
    machine.sync()
    for job_id in ids:
        keys = [link.key(f"{kind}:{job_id}") for kind in ("files", "usage", "state")]
        assert link.ask(("EXISTS", *keys)) == [0]
        assert not machine.spool.holds(job_id)


def test_removing_many_files_does_not_hold_up_a_machine(
    machine: RedisMachine, start: Callable[..., Claim], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tailboard.intervals.PRUNE_TIME", 0.0)
    claim = start()
    put(claim.folder, {b"%d" % number: b"" for number in range(50)})
    job_id = finish(claim)
    machine.sync()
    machine.redis.delete(job_id)
    machine.sync()
    link, tmp = machine.redis.link, Path(machine.spool.root) / "tmp"
    assert link.ask(("SMEMBERS", link.key(f"gone:{machine.spool.name}"))) == [set()]
    rounds = 0
    while machine.relay.removals:
        assert not machine.spool.holds(job_id) and list(tmp.iterdir())
        machine.relay.round()
        rounds += 1
    assert rounds > 40 and not list(tmp.iterdir())


# --- Too large ------------------------------------------------------------------------------------


@pytest.mark.parametrize("why", ["bytes", "entries", "names"])
def test_large_files_stay_on_their_machine_and_are_listed(
    machine: RedisMachine,
    start: Callable[..., Claim],
    why: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if why == "bytes":
        machine.relay.outbox.most_files = sum(map(len, CONTENTS.values())) - 1
    elif why == "entries":
        monkeypatch.setattr("tailboard.folder.file_reading.LISTED_BYTES", 12)
    else:
        monkeypatch.setattr(file_pack, "MOST_LISTING", 500)
    job_id = finish_with_files(start)
    machine.sync()
    listing = machine.redis.list_files(job_id)
    folder = f"{machine.spool.root}/succeeded/{job_id[:8]}/{job_id}/files"
    assert os.path.isdir(folder)
    assert listing.elsewhere == f"the files of job {job_id} are only on host in {folder}"
    assert listing.is_complete == (why == "bytes")
    assert {entry.path for entry in listing.entries} >= {b"a.txt", b"empty", b"sub"}
    with pytest.raises(FilesElsewhere, match=folder):
        machine.redis.open_file(job_id, b"a.txt")
    assert stored(machine, job_id).keys() == {b"listing", b"version"}
    assert machine.redis.sent_bytes([job_id]) == {}


# --- Changes while they are sent ------------------------------------------------------------------


def test_the_listing_says_what_was_sent_if_files_change_meanwhile(
    machine: RedisMachine, start: Callable[..., Claim], one_chunk_a_round: None
) -> None:
    """A process that the job has left behind changes them."""
    claim = start()
    names = [b"0", b"cut", b"gone", b"grows", b"linked"]
    put(claim.folder, {name: name * CHUNK for name in names})
    job_id = finish(claim)
    send_a_part(machine, job_id)
    files = Path(machine.spool.locate(job_id)[1]) / "files"
    (files / "gone").unlink()
    (files / "linked").unlink()
    (files / "linked").symlink_to("/etc/passwd")
    os.truncate(files / "cut", CHUNK + 1)
    with (files / "grows").open("ab") as file:
        file.write(b"more")
    machine.sync()
    found = contents_of_readable(machine.redis, job_id)
    cut = found.pop(b"cut")
    assert CHUNK < len(cut) < 3 * CHUNK and (b"cut" * CHUNK).startswith(cut)
    assert found == {b"0": b"0" * CHUNK, b"grows": b"grows" * CHUNK + b"more"}
    times = {e.path: e.modified for e in machine.redis.list_files(job_id).entries}
    assert times[b"grows"] == (files / "grows").stat().st_mtime
    with pytest.raises(FilesElsewhere):
        machine.redis.open_file(job_id, b"linked")


def test_files_that_grow_above_the_limit_while_they_are_sent_stay_on_their_machine(
    machine: RedisMachine, start: Callable[..., Claim], one_chunk_a_round: None
) -> None:
    claim = start()
    put(claim.folder, {b"a": b"a" * 3 * CHUNK, b"b": b"b"})
    machine.relay.outbox.most_files = 3 * CHUNK + 1
    job_id = finish(claim)
    send_a_part(machine, job_id)
    (Path(machine.spool.locate(job_id)[1]) / "files/b").write_bytes(b"bb")
    machine.sync()
    assert machine.redis.list_files(job_id).elsewhere
    assert stored(machine, job_id).keys() == {b"listing", b"version"}


def contents_of_readable(store: RedisMachines, job_id: str) -> dict[bytes, bytes]:
    found = {}
    for entry in store.list_files(job_id).entries:
        with suppress(FilesElsewhere):
            found[entry.path] = read(store, job_id, entry.path)
            assert entry.size == len(found[entry.path])
    return found


# --- Failures halfway -----------------------------------------------------------------------------


def test_another_worker_sends_the_files_again_after_a_restart_halfway(
    machine: RedisMachine,
    start: Callable[..., Claim],
    one_chunk_a_round: None,
    redis_url: str,
    tmp_path: Path,
) -> None:
    job_id = finish_with_files(start)
    send_a_part(machine, job_id)
    machine.relay.close()
    machine.relay = RedisMachine(redis_url, str(tmp_path / "spool")).relay
    machine.sync()
    assert contents(machine.redis, job_id) == CONTENTS


@pytest.mark.parametrize("loss", ["everything", "a chunk", "all chunks", "another type"])
def test_files_are_sent_again_if_redis_loses_a_part_halfway(
    machine: RedisMachine, start: Callable[..., Claim], one_chunk_a_round: None, loss: str
) -> None:
    claim = start()
    files = {b"a": os.urandom(CHUNK)} if loss == "all chunks" else CONTENTS
    put(claim.folder, files)
    job_id = finish(claim)
    if loss == "all chunks":
        machine.relay.next_beat = 0.0
        machine.relay.round()
        assert stored(machine, job_id).keys() == {b"0", b"next"}, "only the listing is missing"
    else:
        send_a_part(machine, job_id)
    link = machine.redis.link
    key = link.key(f"files:{job_id}")
    if loss == "everything":
        link.client.flushall()
    else:
        link.ask(("UNLINK", key))
    if loss == "another type":
        link.ask(("SET", key, "x"))
    machine.sync()
    assert contents(machine.redis, job_id) == files


@pytest.mark.parametrize("loss", ["everything", "the files"])
def test_files_are_sent_again_if_redis_loses_them_later(
    machine: RedisMachine, start: Callable[..., Claim], loss: str
) -> None:
    job_id = finish_with_files(start)
    machine.sync()
    version = machine.redis.open_file(job_id, b"a.txt").version
    link = machine.redis.link
    if loss == "everything":
        link.client.flushall()
    else:  # as if a machine had died between restoring the job and sending its files
        link.ask(
            ("UNLINK", link.key(f"files:{job_id}")),
            ("HDEL", link.key(f"state:{job_id}"), "files"),
        )
        machine.relay.outbox.compare_all()
    machine.sync()
    assert contents(machine.redis, job_id) == CONTENTS
    assert machine.redis.open_file(job_id, b"a.txt").version == version


def test_large_files_do_not_delay_the_end_of_another_job(
    machine: RedisMachine, start: Callable[..., Claim], one_chunk_a_round: None
) -> None:
    claims = [start(), start()]
    put(claims[0].folder, {b"large": bytes(30 * CHUNK)})
    put(claims[1].folder, {b"small": b"x"})
    large = finish(claims[0])
    send_a_part(machine, large)
    small = finish(claims[1])
    machine.relay.next_beat = 0.0
    for _ in range(6):
        machine.relay.round()
    assert machine.redis.status(small) is Status.SUCCEEDED
    assert machine.redis.status(large) is Status.RUNNING
    machine.sync()
    assert contents(machine.redis, large) == {b"large": bytes(30 * CHUNK)}


def test_a_new_end_does_not_wait_for_files_that_redis_has_lost(
    machine: RedisMachine, start: Callable[..., Claim], one_chunk_a_round: None
) -> None:
    lost = []
    for _ in range(5):
        claim = start()
        put(claim.folder, {b"large": bytes(9 * CHUNK)})
        lost.append(finish(claim))
    machine.sync()
    claim = start()
    put(claim.folder, {b"new": b"x" * CHUNK})
    machine.redis.link.client.flushall()
    machine.relay.handle_outage(OSError("Redis was restarted"))
    machine.relay.next_beat = 0.0
    for _ in range(8):
        machine.relay.round()
    new = finish(claim)
    machine.relay.next_beat = 0.0
    for _ in range(8):
        machine.relay.round()
    assert machine.redis.status(new) is Status.SUCCEEDED
    assert contents(machine.redis, new) == {b"new": b"x" * CHUNK}
    assert not all(stored(machine, job_id).get(b"listing") for job_id in lost)
    machine.sync()
    for job_id in lost:
        assert contents(machine.redis, job_id) == {b"large": bytes(9 * CHUNK)}


def test_a_job_is_not_pruned_while_one_of_its_files_is_read(
    machine: RedisMachine, start: Callable[..., Claim], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tailboard.keep_rules.MIN_KEPT", 0.0)
    claim = start()
    put(claim.folder, CONTENTS)
    with claim.open_log_for_append() as log:
        log.write(b"x" * 1_000)
    job_id = finish(claim)
    machine.sync()
    with machine.redis.open_file(job_id, b"a.txt") as file:
        for _ in machine.prune(0, 1):
            pass
        assert file.read(0, 9) == b"hello\n"
        link, key = machine.redis.link, machine.redis.link.key(f"reading:{job_id}")
        link.ask(("EXPIRE", key, 1))
        file.lease.renewed_at -= READER_LEASE  # type: ignore[attr-defined]
        file.read(0, 1)
        assert link.ask(("TTL", key))[0] > 1, "a reader renews it"
    for _ in machine.prune(0, 1):
        pass
    with pytest.raises(JobNotFound):
        machine.redis.get(job_id)


def test_less_is_sent_at_once_if_the_network_breaks_meanwhile(
    redis: RedisServer, proxy: Proxy, tmp_path: Path
) -> None:
    """Otherwise a network that needs more than REDIS_TIMEOUT for a round would break each."""
    machine = RedisMachine(f"redis://127.0.0.1:{proxy.port}/0", str(tmp_path / "spool"))
    machine.listen(())
    machine.submit(Job(command="true"))
    claim = machine.claim("worker", "host")
    assert claim is not None
    content = os.urandom(17 * CHUNK)
    put(claim.folder, {b"x": content})
    machine.sync()
    job_id = finish(claim)
    outbox, rooms = machine.relay.outbox, []
    outbox.changed.add(job_id)
    for _ in range(6):
        proxy.drops_answers.set()
        with pytest.raises(OSError) as error:
            outbox.send()
        machine.relay.handle_outage(error.value)
        proxy.drops_answers.clear()
        rooms.append(outbox.files_room.limit() // CHUNK)
    assert rooms == [8, 4, 2, 1, 1, 1]
    machine.sync()
    assert contents(machine.redis, job_id) == {b"x": content}
    outbox.files_room.slow_until = time.monotonic()
    assert outbox.files_room.limit() == 16 * CHUNK
    machine.close()


def test_files_that_redis_has_lost_are_not_reported_as_none(
    machine: RedisMachine, start: Callable[..., Claim]
) -> None:
    job_id = finish_with_files(start)
    machine.sync()
    link = machine.redis.link
    link.ask(("UNLINK", link.key(f"files:{job_id}")))
    for call in (machine.redis.list_files, lambda i: machine.redis.open_file(i, b"a.txt")):
        with pytest.raises(FilesElsewhere, match=f"only on host in {machine.spool.root}/succeeded"):
            call(job_id)


def test_a_job_that_is_given_up_while_its_files_are_sent_has_none_in_redis(
    machine: RedisMachine, start: Callable[..., Claim], one_chunk_a_round: None
) -> None:
    job_id = finish_with_files(start)
    send_a_part(machine, job_id)
    machine.redis.mark_lost(machine.spool.name, "its machine did not report")
    assert stored(machine, job_id) == {}
    machine.sync()
    assert machine.redis.status(job_id) is Status.LOST
    assert stored(machine, job_id) == {}
    assert machine.redis.list_files(job_id).entries == []
    (kept,) = (Path(machine.spool.root) / "set-aside").iterdir()
    assert (kept / "files/a.txt").read_bytes() == b"hello\n"


def test_a_cancel_that_redis_has_accepted_keeps_the_files(
    machine: RedisMachine, start: Callable[..., Claim], one_chunk_a_round: None
) -> None:
    job_id = finish_with_files(start)
    send_a_part(machine, job_id)
    machine.redis.cancel(job_id, "enough")
    machine.sync()
    assert machine.redis.status(job_id) is Status.CANCELLED
    assert contents(machine.redis, job_id) == CONTENTS


def test_a_damaged_listing_affects_only_its_job(
    machine: RedisMachine, start: Callable[..., Claim]
) -> None:
    ids = [finish_with_files(start) for _ in range(2)]
    machine.sync()
    link = machine.redis.link
    for listing in (b"", b"x", PackedListing([], True, True).encode()[:-3]):
        link.ask(("HSET", link.key(f"files:{ids[0]}"), "listing", listing))
        with pytest.raises(OSError, match="list of its files"):
            machine.redis.list_files(ids[0])
    assert contents(machine.redis, ids[1]) == CONTENTS
    link.ask(("SET", link.key(f"files:{ids[0]}"), "x"))
    with pytest.raises(FilesElsewhere):
        machine.redis.list_files(ids[0])
    machine.redis.delete(ids[0])


@pytest.mark.parametrize(
    "row",
    [
        ["a", "file", 1, 0.0],
        ["a", "strange", 1, 0.0, 0],
        [1, "file", 1, 0.0, 0],
        ["\u1234", "file", 1, 0.0, 0],
        ["a", "file", -1, 0.0, 0],
        ["a", "file", 1, None, 0],
        ["a", "file", 1, 0.0, -1],
        None,
    ],
)
def test_a_row_that_no_machine_has_sent_damages_its_listing(row: object) -> None:
    text = json.dumps({"complete": True, "sent": True, "files": [row]}).encode()
    with pytest.raises(ValueError):
        decode_listing(zlib.compress(text))


# --- Real workers ---------------------------------------------------------------------------------


def test_a_job_ends_with_its_files_elsewhere_while_redis_is_full(
    team: Team, redis: RedisServer, gate: Gate
) -> None:
    line = "cd $JOB_FILES; echo started; echo x >small; head -c 300000 /dev/urandom >large"
    team.start("a")
    job = team.submit(f"{line}; {gate.wait}; exit 4")
    team.wait_for_log(job, "started\n")
    redis.do("CONFIG", "SET", "maxmemory", "1mb")
    gate.open()
    assert team.wait(job).exit_code == 4
    for call in (team.store.list_files, lambda i: team.store.open_file(i, b"small")):
        with pytest.raises(FilesElsewhere, match=f"{team.place}/a/failed/.*/{job.id}/files"):
            call(job.id)
    redis.do("CONFIG", "SET", "maxmemory", "0")
    team.store.delete(job.id)


def test_a_worker_killed_while_it_sends_files_leaves_them_to_the_next(
    team: Team, proxy: Proxy, redis: RedisServer
) -> None:
    proxy.delay = 0.05
    env = {
        "TAILBOARD_STORAGE": f"redis://127.0.0.1:{proxy.port}/0",
        "TAILBOARD_SPOOL": str(team.place / "a"),
    }
    killed = team.processes.start(*quick_worker(0.5, 0.5), **env)
    team.workers.append(killed)
    job = team.submit("head -c 12000000 /dev/urandom >$JOB_FILES/x")
    key = f"tailboard:files:{job.id}"
    wait_until(lambda: redis.do("HGET", key, "next"), 30, team.processes.text)
    killed.kill()
    assert team.store.status(job.id) is Status.RUNNING
    team.start("a")
    team.wait(job)
    content = read(team.store, job.id, b"x")
    assert content == (Path(team.spool("a").locate(job.id)[1]) / "files/x").read_bytes()
    assert len(content) == 12_000_000


# --- Retries --------------------------------------------------------------------------------------


def test_a_retry_on_the_same_machine_sees_the_files_of_the_attempt_before(
    machine: RedisMachine, start: Callable[..., Claim]
) -> None:
    claim = start(retries=1)
    put(claim.folder, CONTENTS)
    job_id = requeue(claim)
    machine.sync()
    assert machine.redis.status(job_id) is Status.QUEUED
    assert not machine.spool.holds(job_id)
    with pytest.raises(FileNotFoundError):
        machine.redis.open_file(job_id, b"a.txt")
    machine.relay.next_maintenance = 0.0
    machine.sync()
    again = machine.claim("worker", "host")
    assert again is not None and again.job.id == job_id
    put(again.folder, {b"a.txt": b"second"})
    finish(again)
    machine.sync()
    assert contents(machine.redis, job_id) == CONTENTS | {b"a.txt": b"second"}
    assert machine.spool.kept_files() == []


@pytest.mark.parametrize("place", ["running", "lost"])
def test_a_retry_starts_although_a_remnant_of_the_job_is_on_the_machine(
    machine: RedisMachine, start: Callable[..., Claim], place: str
) -> None:
    """What `mkdir -p $JOB_FILES` makes, in a process that the attempt before left behind."""
    claim = start(retries=1)
    job_id = requeue(claim)
    machine.sync()
    os.makedirs(f"{machine.spool.root}/running/{job_id}/files")
    if place == "lost":
        (remnant,) = machine.spool.orphans("host", ())
        remnant.finish_damaged(Status.LOST)
        remnant.release()
    machine.relay.next_maintenance = 0.0
    machine.sync()
    again = machine.claim("worker", "host")
    assert again is not None and again.job.id == job_id
    finish(again)
    machine.sync()
    assert machine.redis.status(job_id) is Status.SUCCEEDED


def test_files_of_an_attempt_are_deleted_if_the_job_does_not_run_again_here(
    machine: RedisMachine, start: Callable[..., Claim]
) -> None:
    claim = start(retries=1)
    put(claim.folder, CONTENTS)
    job_id = requeue(claim)
    machine.sync()
    assert machine.spool.kept_files() == [job_id]
    machine.redis.cancel(job_id, "enough")
    machine.relay.next_maintenance = 0.0
    machine.sync()
    assert machine.spool.kept_files() == []
    assert machine.redis.list_files(job_id).entries == []


# --- What the processes used ----------------------------------------------------------------------


def write_usage(folder: str, count: int, first: float = 1e9) -> list[UsageSample]:
    """Writes the file `usage` of a job."""
    samples = [UsageSample(first + 5 * n, 0.5 * n, 1_000 + n) for n in range(count)]
    Path(f"{folder}/usage").write_bytes(b"".join(USAGE_RECORD.pack(*s) for s in samples))
    return samples


def test_what_a_job_used_is_sent_once_a_minute_and_at_its_end(
    machine: RedisMachine, start: Callable[..., Claim], monkeypatch: pytest.MonkeyPatch
) -> None:
    claim = start()
    job_id = claim.job.id
    machine.sync()
    assert machine.redis.usage(job_id) == [] and machine.redis.latest_usage([job_id]) == {}
    later(machine, job_id)
    samples = write_usage(claim.folder, 3)
    machine.sync()
    assert machine.redis.usage(job_id) == samples
    assert machine.redis.latest_usage([job_id, "x"]) == {job_id: samples[-2:]}
    more = write_usage(claim.folder, 4)
    with claim.open_log_for_append() as log:
        log.write(b"output\n")
    machine.sync()
    assert machine.redis.usage(job_id) == samples, "a minute has not passed"
    later(machine, job_id)
    machine.sync()
    assert machine.redis.usage(job_id) == more
    assert machine.redis.latest_usage([job_id]) == {job_id: more[-2:]}
    thinned = write_usage(claim.folder, 2, 2e9)
    later(machine, job_id)
    machine.sync()
    assert machine.redis.usage(job_id) == thinned, "the file has become smaller"
    last = write_usage(claim.folder, 5, 2e9)
    finish(claim)
    machine.sync()
    assert machine.redis.usage(job_id) == last
    machine.redis.link.client.flushall()
    machine.sync()
    assert machine.redis.usage(job_id) == last, "it is sent again"


def test_the_start_and_the_end_of_a_short_job_are_not_sent(
    machine: RedisMachine, start: Callable[..., Claim]
) -> None:
    claim = start()
    write_usage(claim.folder, 1)
    machine.sync()
    write_usage(claim.folder, 2)
    job_id = finish(claim)
    machine.sync()
    link = machine.redis.link
    assert link.ask(("EXISTS", link.key(f"usage:{job_id}"))) == [0]
    assert machine.redis.usage(job_id) == []


def later(machine: RedisMachine, job_id: str) -> None:
    """As if a minute had passed since this job's samples were sent."""
    machine.relay.outbox.sent[job_id].usage_due = 0.0
