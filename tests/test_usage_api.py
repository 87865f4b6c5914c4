"""What jobs used over time, as the API shows it, whatever is in the files `usage`."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from conftest import JobMaker
from flask.testing import FlaskClient
from web import UNKNOWN, is_problem

from tailboard.folder.claim import Claim
from tailboard.usage import MOST_RECORDS, USAGE_RECORD, UsageSample, cores_used, halve, thin
from tailboard.values import parse_time, utc
from tailboard.web import usage_samples

MIB = 1 << 20


def write_usage(held: Claim | Path, samples: Sequence[UsageSample]) -> None:
    """Replaces the file `usage` of a job."""
    folder = held if isinstance(held, Path) else Path(held.folder)
    (folder / "usage").write_bytes(b"".join(USAGE_RECORD.pack(*each) for each in samples))


def steps(begin: float, count: int, cores: float = 1.0, memory: int = MIB) -> list[UsageSample]:
    """One sample every 5 s of an attempt that uses so many cores."""
    return [UsageSample(begin + 5 * n, 5 * n * cores, memory) for n in range(1, count + 1)]


@pytest.fixture
def held(job_maker: JobMaker) -> Claim:
    """A running job."""
    return job_maker.running()


def start_of(held: Claim) -> float:
    return parse_time(held.attempt.started_at or "")


def read(client: FlaskClient, job_id: str, query: str = "") -> list[dict[str, Any]]:
    answer = client.get(f"/jobs/{job_id}/usage{query}")
    assert answer.status_code == 200, answer.text
    samples: list[dict[str, Any]] = answer.get_json()["samples"]
    return samples


def listed(client: FlaskClient, query: str = "") -> Any:
    [row] = client.get(f"/jobs{query}").get_json()["jobs"]
    return row.get("usage", "left out")


def test_the_samples_show_cores_seconds_and_memory(client: FlaskClient, held: Claim) -> None:
    begin = start_of(held)
    write_usage(
        held,
        [
            UsageSample(begin + 1, 0.5, 3 * MIB),
            UsageSample(begin + 5, 8.5, 5 * MIB),
            UsageSample(begin + 9, 0.25, MIB),  # of the next attempt
        ],
    )
    first, second, third = read(client, held.job.id)
    assert first == {
        "at": utc(begin + 1),
        "cpu": None,
        "cpu_seconds": 0.5,
        "memory_bytes": 3 * MIB,
    }
    assert (second["cpu"], second["cpu_seconds"], second["memory_bytes"]) == (2.0, 8.5, 5 * MIB)
    assert (third["cpu"], third["cpu_seconds"]) == (None, 0.25)
    assert read(client, held.job.id, "?limit=2") == [second, third]


def test_many_samples_are_thinned_but_for_the_newest(client: FlaskClient, held: Claim) -> None:
    begin = start_of(held)
    samples = steps(begin, MOST_RECORDS, 0.5)
    samples[777] = samples[777]._replace(memory_bytes=9 * MIB)
    write_usage(held, samples)
    found = read(client, held.job.id)
    assert 500 <= len(found) <= 1_000
    assert (found[0]["at"], found[-1]["at"]) == (utc(samples[0].at), utc(samples[-1].at))
    assert max(each["memory_bytes"] for each in found) == 9 * MIB
    assert {each["cpu"] for each in found} == {None, 0.5}
    newest = read(client, held.job.id, "?limit=3")
    assert [each["at"] for each in newest] == [utc(each.at) for each in samples[-3:]]
    assert [each["cpu"] for each in newest] == [0.5, 0.5, 0.5]


def test_a_second_request_for_the_same_samples_gets_a_304(client: FlaskClient, held: Claim) -> None:
    write_usage(held, steps(start_of(held), 3))
    path = f"/jobs/{held.job.id}/usage"
    etag = client.get(path).headers["ETag"]
    assert client.get(path, headers={"If-None-Match": etag}).status_code == 304
    write_usage(held, steps(start_of(held), 4))
    assert client.get(path, headers={"If-None-Match": etag}).status_code == 200


def test_a_job_without_samples_and_an_unknown_one(client: FlaskClient, held: Claim) -> None:
    assert read(client, held.job.id) == []
    is_problem(client.get(f"/jobs/{UNKNOWN}/usage"), 404)
    for limit in ("0", "1001", "x", "-1"):
        answer = client.get(f"/jobs/{held.job.id}/usage?limit={limit}")
        is_problem(answer, 400, "limit must be a whole number from 1 to 1,000")


def test_the_samples_move_with_the_job(
    client: FlaskClient, held: Claim, job_maker: JobMaker
) -> None:
    write_usage(held, steps(start_of(held), 2))
    job = job_maker.finish(held)
    assert len(read(client, job.id)) == 2
    assert "usage" not in client.get(f"/jobs/{job.id}").get_json()
    assert listed(client) == "left out"


@pytest.mark.parametrize("kind", ["link", "fifo", "folder", "unreadable", "noise", "hole", "torn"])
def test_whatever_a_job_puts_in_place_of_its_samples(
    client: FlaskClient, held: Claim, kind: str
) -> None:
    usage = Path(held.folder, "usage")
    write_usage(held, steps(start_of(held), 3))
    expected = 0
    match kind:
        case "link":
            usage.rename(usage.with_name("elsewhere"))
            usage.symlink_to("elsewhere")
        case "fifo":
            usage.unlink()
            os.mkfifo(usage)
        case "folder":
            usage.unlink()
            usage.mkdir()
        case "unreadable":
            usage.chmod(0)
            expected = 3 if os.geteuid() == 0 else 0
        case "noise":
            usage.write_bytes(b"\xff" * 2_400)
        case "hole":
            os.truncate(usage, 4 << 40)  # whose end consists of zeros
            expected = 1_000
        case "torn":
            usage.write_bytes(usage.read_bytes() + b"\x01" * 7)
            expected = 3
    assert len(read(client, held.job.id)) <= max(expected, 0)
    assert client.get("/jobs").status_code == client.get(f"/jobs/{held.job.id}").status_code == 200


def test_a_running_job_shows_what_it_uses(
    client: FlaskClient, held: Claim, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(usage_samples, "READ_INTERVAL", -1.0)
    begin = start_of(held)
    assert listed(client) is None
    write_usage(held, steps(begin - 60, 3))  # of an earlier attempt
    assert listed(client) is None
    write_usage(held, steps(begin, 3, 0.5, 7 * MIB))
    expected = {"at": utc(begin + 15), "cpu": 0.5, "memory_bytes": 7 * MIB}
    assert listed(client) == expected
    assert listed(client, f"?id={held.job.id}") == expected
    assert client.get(f"/jobs/{held.job.id}").get_json()["usage"] == expected


def test_a_list_repeats_what_differs_little(
    client: FlaskClient, held: Claim, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(usage_samples, "READ_INTERVAL", -1.0)
    begin = start_of(held)
    samples = steps(begin, 2, 0.5, 100 * MIB)
    write_usage(held, samples)
    etag = client.get("/jobs").headers["ETag"]

    def is_same() -> bool:
        return client.get("/jobs", headers={"If-None-Match": etag}).status_code == 304

    at, used, _ = samples[-1]
    write_usage(held, [*samples, UsageSample(at + 5, used + 2.6, 105 * MIB)])
    assert is_same()
    assert client.get(f"/jobs/{held.job.id}").get_json()["usage"]["cpu"] == 0.52
    write_usage(held, [*samples, UsageSample(at + 5, used + 5, 105 * MIB)])
    assert not is_same() and listed(client)["cpu"] == 1.0
    write_usage(held, [*samples, UsageSample(at + 5, used + 5, 200 * MIB)])
    assert listed(client)["memory_bytes"] == 200 * MIB
    write_usage(held, steps(begin, 15, 1.0, 200 * MIB))
    assert listed(client)["at"] == utc(begin + 75)  # after a minute it is shown again


def test_a_list_reads_samples_every_few_seconds(client: FlaskClient, held: Claim) -> None:
    write_usage(held, steps(start_of(held), 3, 0.5))
    before = listed(client)
    write_usage(held, steps(start_of(held), 4, 9.0))
    assert listed(client) == before
    assert client.get(f"/jobs/{held.job.id}").get_json()["usage"]["cpu"] == 9.0


def test_only_so_many_jobs_are_remembered(
    job_maker: JobMaker, held: Claim, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(usage_samples, "MOST_SHOWN", 2)
    jobs = [held.job, *(job_maker.running().job for _ in range(2))]
    usage = usage_samples.SteadyUsage(job_maker.storage)
    assert len(usage.of(jobs)) == 3
    assert usage.shown.keys() == {job.id for job in jobs[1:]}


def test_each_attempt_keeps_its_first_and_its_last_sample_when_others_are_left_out() -> None:
    samples = [*steps(0, 4), *steps(100, 1), UsageSample(200, 0, 0), *steps(200, 4)]
    kept = halve(samples)
    assert [each.at for each in kept] == [5, 10, 20, 105, 200, 210, 220]
    assert cores_used(kept) == [None, 1, 1, None, None, 1, 1]


def test_samples_that_cannot_be_thinned_are_cut() -> None:
    samples = [UsageSample(n, -n, 0) for n in range(100)]
    assert thin(samples, 10) == samples[-10:]
    assert thin(steps(0, 10), 10) == steps(0, 10)
