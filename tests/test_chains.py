"""`then`: the saved command that starts after a run of another one has succeeded."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from command_site import Tailboard
from conftest import Gate, Processes, RedisServer, SmallDisk, quick_worker, wait_until
from flask.testing import FlaskClient
from test_crash import Case, play_all

from tailboard.folder.folder_store import FolderStore
from tailboard.job import Job
from tailboard.machines.redis_machines import RedisMachines
from tailboard.saved_command import Param, SavedCommand
from tailboard.status import Status

Save = Callable[..., None]


@pytest.fixture
def save(storage: FolderStore) -> Save:
    """Saves a command of this name."""

    def save(name: str, command: str = "true", **fields: Any) -> None:
        storage.saved.save(SavedCommand(saved=name, command=command, **fields))

    return save


def run(storage: FolderStore, name: str, **values: str) -> Job:
    job = storage.saved.load(name).job(values)
    job.submitted_by = "anna"
    return storage.submit(job)


def runs_of(storage: FolderStore, name: str) -> list[Job]:
    return list(storage.get_many(storage.saved.runs(name)))


# --- Saving a chain -------------------------------------------------------------------------------


def test_a_chain_is_saved_shown_and_copied_into_its_jobs(client: FlaskClient) -> None:
    assert client.put("/saved/report", json={"command": "true"}).get_json()["then"] is None
    answer = client.put("/saved/backup", json={"command": "true", "then": "report"})
    assert (answer.status_code, answer.get_json()["then"]) == (201, "report")
    job = client.post("/saved/backup/run").get_json()
    assert job["then"] == client.get(f"/jobs/{job['id']}").get_json()["then"] == "report"
    client.post(f"/jobs/{job['id']}/cancel")
    assert client.post(f"/jobs/{job['id']}/rerun").get_json()["then"] == "report"


@pytest.mark.parametrize(
    ("name", "then", "sentence"),
    [
        ("a", "a", "then: a would start itself again (a, a)"),
        ("c", "a", "then: c would start itself again (c, a, b, c)"),
        ("new", "nothing", "then: there is no saved command 'nothing'"),
        ("new", "new", "then: new would start itself again (new, new)"),
        ("new", "A B", "then must be the name of a saved command, 1 to 64 of the characters"),
        ("new", 5, "then must be the name of a saved command"),
    ],
)
def test_a_chain_that_cannot_work_is_refused_in_one_sentence(
    client: FlaskClient, name: str, then: object, sentence: str
) -> None:
    for saved, following in (("c", None), ("b", "c"), ("a", "b")):
        client.put(f"/saved/{saved}", json={"command": "true", "then": following})
    for check in ("", "?check=1"):
        answer = client.put(f"/saved/{name}{check}", json={"command": "true", "then": then})
        assert answer.status_code == 400
        assert answer.get_json()["detail"].startswith(sentence)
    assert [each["then"] for each in client.get("/saved").get_json()["saved"]] == ["b", "c", None]


def test_a_command_whose_next_one_was_deleted_can_still_be_edited(client: FlaskClient) -> None:
    client.put("/saved/report", json={"command": "true"})
    client.put("/saved/backup", json={"command": "true", "then": "report"})
    assert client.delete("/saved/report").status_code == 204
    saved = client.get("/saved/backup").get_json()
    answer = client.put("/saved/backup", json=saved | {"paused": True})
    assert (answer.status_code, answer.get_json()["then"]) == (200, "report")


def test_the_commands_save_and_show_a_chain(tailboard: Tailboard) -> None:
    tailboard("save", "report", "true")
    assert tailboard("save", "backup", "true", "--then", "report").stdout == "saved backup\n"
    assert "\nthen      report\n" in tailboard("saved", "show", "backup").stdout
    assert "  then report  true\n" in tailboard("saved").stdout
    refused = tailboard("save", "report", "true", "--then", "backup")
    wrong = "then: report would start itself again (report, backup, report)"
    assert (refused.exit_code, refused.stderr) == (1, f"Error: {wrong}\n")


def test_commands_that_start_each_other_are_imported_in_any_order(
    tailboard: Tailboard, tmp_path: Path
) -> None:
    kept = tmp_path / "kept"
    for name, then in (("c", None), ("b", "c"), ("a", "b")):
        tailboard("save", name, "true", *(["--then", then] if then else []))
    tailboard("saved", "export", str(kept))
    for name in "abc":
        tailboard("saved", "delete", name)
    done = tailboard("saved", "import", str(kept))
    assert done.stdout.splitlines() == ["saved c", "saved b", "saved a"], done.stderr
    assert tailboard.storage.saved.load("a").then == "b"
    # The chain is turned around: c, b, a.
    for name, then in (("a", None), ("b", "a"), ("c", "b")):
        (kept / f"{name}.json").write_text(json.dumps({"command": "true", "then": then}))
    done = tailboard("saved", "import", str(kept))
    assert done.stdout.splitlines() == ["replaced a", "replaced b", "replaced c"], done.stderr
    for then, sentence in (
        ("c", "then: a would start itself again (a, c, b, a)"),
        ("nothing", "then: there is no saved command 'nothing'"),
    ):
        (kept / "a.json").write_text(json.dumps({"command": "true", "then": then}))
        done = tailboard("saved", "import", str(kept))
        assert (done.exit_code, done.stdout, len(done.stderr.splitlines())) == (1, "", 1)
        assert done.stderr == f"Error: {kept}/a.json: {sentence}\n"
        assert tailboard.storage.saved.load("a").then is None


# --- Starting the next one ------------------------------------------------------------------------


def test_the_next_command_gets_the_values_of_its_params(
    storage: FolderStore, save: Save, drain: Callable[..., None]
) -> None:
    save("last", 'echo "$ENV"', params=[Param(name="ENV", default="none")])
    params = [Param(name="ENV"), Param(name="OTHER", default="x")]
    save("report", then="last", params=params)
    save("deploy", then="report", params=[Param(name="ENV"), Param(name="VERSION")])
    first = run(storage, "deploy", ENV="live", VERSION="1.2")
    drain()
    (report,), (last,) = runs_of(storage, "report"), runs_of(storage, "last")
    assert report.values == {"ENV": "live", "OTHER": "x"}
    assert (report.submitted_by, report.after, report.then) == ("anna", [first.id], "last")
    assert report.as_dict()["reason"] == f"after {first.id} succeeded"
    assert (last.values, last.after, last.status) == ({"ENV": "live"}, [report.id], "succeeded")
    ended = storage.get(first.id)
    assert ended.reason is None
    assert ended.finished_at and report.started_at and ended.finished_at <= report.started_at


def test_a_run_is_not_in_the_way_of_the_one_that_follows_it(
    storage: FolderStore, save: Save, drain: Callable[..., None]
) -> None:
    save("skips", key="k", if_busy="skip")
    save("replaces", key="k", if_busy="replace", then="skips")
    save("first", key="k", then="replaces")
    run(storage, "first")
    drain()
    assert [job.name for job in storage.list()[0]] == ["skips", "replaces", "first"]
    assert {job.status for job in storage.list()[0]} == {Status.SUCCEEDED}


def test_nothing_follows_a_run_that_has_not_succeeded(
    storage: FolderStore, save: Save, drain: Callable[..., None]
) -> None:
    save("report")
    save("fails", "exit 3", retries=1, then="report")
    save("hangs", "exec sleep 60", timeout=0.2, then="report")
    for name in ("fails", "hangs"):
        run(storage, name)
    drain()
    assert storage.counts()[Status.FAILED] == storage.counts()[Status.TIMED_OUT] == 1
    assert runs_of(storage, "report") == []


def test_a_run_that_succeeds_although_nothing_can_follow_says_why(
    storage: FolderStore, save: Save, folder: Path, drain: Callable[..., None], processes: Processes
) -> None:
    save("needs", params=[Param(name="ENV", choices=["test", "live"])])
    save("deleted")
    save("first", then="needs")
    save("second", then="deleted")
    save("third", then="needs", params=[Param(name="ENV")])
    save("loop")
    path = folder / "saved" / "loop.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"then": "loop"}))  # by hand
    storage.saved.delete("deleted")
    jobs = [run(storage, "first"), run(storage, "second"), run(storage, "third", ENV="mars")]
    jobs.append(run(storage, "loop"))
    drain()
    reasons = [
        "needs did not start: ENV is required: one of test, live",
        "deleted did not start: there is no saved command 'deleted'",
        "needs did not start: ENV must be one of test, live, not 'mars'",
        "loop did not start: loop would start itself again (loop, loop)",
    ]
    ended = [storage.get(job.id) for job in jobs]
    assert [job.reason for job in ended] == reasons
    assert {job.status for job in ended} == {Status.SUCCEEDED}
    for job, reason in zip(ended, reasons, strict=True):
        assert f"job={job.id} reason={reason!r}" in processes.text()
    assert storage.counts()[Status.QUEUED] == 0


def test_a_worker_killed_at_any_step_starts_the_next_command_once(
    tmp_path: Path, processes: Processes, full: bool
) -> None:
    """It is killed while it submits the next run and records the end of the first one."""

    def scene(number: int) -> tuple[Case, Job]:
        case = Case(tmp_path / str(number), processes)
        line = f"echo $JOB_ID >>{case.tally}"
        case.storage.saved.save(SavedCommand(saved="report", command=line))
        return case, case.submit(line, then="report")

    alive, first = scene(0)
    steps = alive.worker_dies_at(0)
    begin = next(n for n, step in enumerate(steps, 1) if "keys/" in step)
    moved = f"rename running/{first.id} {first.id[:8]}/{first.id}"
    end = steps.index(moved) + 1
    assert begin < end, steps

    def play(number: int) -> None:
        case, first = scene(number)
        case.worker_dies_at(number)
        case.recover()
        (report,) = runs_of(case.storage, "report")
        assert case.tallied() == [first.id, report.id], steps[:number]
        assert case.storage.counts()[Status.SUCCEEDED] == 2, steps[:number]
        assert report.as_dict()["reason"] == f"after {first.id} succeeded"

    play_all(play, list(range(1 if full else begin, (len(steps) if full else end) + 2)))


def test_on_a_full_disk_the_next_command_starts_once_there_is_space(
    disk: SmallDisk,
    small: FolderStore,
    worker: Callable[..., subprocess.Popen[bytes]],
    processes: Processes,
    gate: Gate,
    tmp_path: Path,
) -> None:
    small.saved.save(SavedCommand(saved="report", command="true", env={"A": "x" * 20_000}))
    process = worker()
    first = small.submit(Job(command=f"echo >{tmp_path}/started; {gate.wait}", then="report"))
    wait_until((tmp_path / "started").exists)
    disk.fill()
    gate.open()
    wait_until(lambda: f"job={first.id} error=" in processes.text(), describe=processes.text)
    assert small.status(first.id) is Status.RUNNING and not small.saved.runs("report")
    disk.free()
    wait_until(lambda: small.counts()[Status.SUCCEEDED] == 2, describe=processes.text)
    assert len(small.saved.runs("report")) == 1
    journal = Path(small.locate(first.id)[1], "journal").read_text()
    assert journal.count('"ended"') == 1, journal
    assert process.poll() is None


# --- Several machines -----------------------------------------------------------------------------


@pytest.fixture
def shared(redis: RedisServer) -> Iterator[RedisMachines]:
    """The storage in Redis, with the commands report and, with the key k, skips."""
    store = RedisMachines(redis.url)
    params = [Param(name="ENV", default="none")]
    store.saved.save(SavedCommand(saved="report", command='echo "$ENV"', params=params))
    store.saved.save(SavedCommand(saved="skips", command="true", key="k", if_busy="skip"))
    yield store
    store.close()


Start = Callable[..., subprocess.Popen[bytes]]


@pytest.fixture
def machine(redis: RedisServer, tmp_path: Path, processes: Processes) -> Start:
    """Starts a worker of a machine."""

    def start(*options: str) -> subprocess.Popen[bytes]:
        env = {"TAILBOARD_STORAGE": redis.url, "TAILBOARD_SPOOL": str(tmp_path / "spool")}
        return processes.start(*quick_worker(), *options, **env)

    return start


def test_a_machine_starts_the_next_command_or_says_why_not(
    shared: RedisMachines, machine: Start, processes: Processes
) -> None:
    save = shared.saved.save
    save(SavedCommand(saved="first", command="true", then="report", params=[Param(name="ENV")]))
    save(SavedCommand(saved="second", command="true", then="skips", key="k"))
    first = shared.submit(shared.saved.load("first").job({"ENV": "live"}))
    second = shared.submit(shared.saved.load("second").job({}))
    third = shared.submit(Job(command="true", then="skips", queue="nobody", key="k"))
    fourth = shared.submit(Job(command="true", then="nothing"))
    fails = shared.submit(Job(command="exit 3", then="report"))
    assert machine("--drain", "--queues", "default").wait(60) == 0, processes.text()
    (report,) = shared.get_many(shared.saved.runs("report"))
    assert (report.values, report.after) == ({"ENV": "live"}, [first.id])
    assert report.as_dict()["reason"] == f"after {first.id} succeeded"
    assert report.status is Status.SUCCEEDED
    assert shared.saved.runs("skips") == []
    reasons = [shared.get(job.id).reason for job in (first, second, fourth, fails)]
    assert reasons == [
        None,
        f"skips did not start: job {third.id} has the key 'k'",
        "nothing did not start: there is no saved command 'nothing'",
        None,
    ]
    assert shared.counts()[Status.SUCCEEDED] == 4


def test_killed_workers_and_an_emptied_redis_start_the_next_command_once(
    shared: RedisMachines,
    redis: RedisServer,
    machine: Start,
    processes: Processes,
    gate: Gate,
    tmp_path: Path,
) -> None:
    report = SavedCommand(saved="report", command=f"echo ran >>{tmp_path}/ran")
    shared.saved.save(report)
    first = shared.submit(Job(command=f"echo started; {gate.wait}", then="report"))
    worker = machine()
    wait_until(lambda: shared.status(first.id) is Status.RUNNING, 60, processes.text)
    redis.kill()
    gate.open()
    spool = FolderStore(tmp_path / "spool")
    wait_until(lambda: spool.status(first.id) is Status.SUCCEEDED, 60, processes.text)
    worker.kill()
    redis.start()
    assert shared.status(first.id) is Status.RUNNING and not shared.saved.runs("report")
    assert machine("--drain").wait(60) == 0, processes.text()
    assert shared.status(first.id) is Status.SUCCEEDED
    (second,) = shared.saved.runs("report")
    assert shared.status(second) is Status.SUCCEEDED
    redis.do("FLUSHALL")
    shared.saved.save(report)
    assert machine("--drain").wait(60) == 0, processes.text()
    assert shared.status(first.id) is shared.status(second) is Status.SUCCEEDED
    assert (tmp_path / "ran").read_text() == "ran\n"
