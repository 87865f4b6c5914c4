"""The audit log on the disk: its files, damage, links, a full disk, retention, and its price."""

from __future__ import annotations

import json
import os
import stat
import time
from pathlib import Path

import pytest
from conftest import files_limited_to
from flask.testing import FlaskClient
from test_audit import ALL, DAY, line, read_all
from test_retention_and_metrics import move_clock, trust_clock

from tailboard.audit import AuditFilter, encode_entry
from tailboard.folder import audit_files
from tailboard.folder.folder_store import FolderStore
from tailboard.values import utc


def day_file(storage: FolderStore) -> Path:
    return Path(storage.root) / "audit" / f"{utc()[:10].replace('-', '')}.jsonl"


def line_with(**fields: object) -> bytes:
    return json.dumps(line() | fields).encode()


def prune(storage: FolderStore, audit_days: int) -> None:
    for _ in storage.prune(0, 0, audit_days):
        pass


def make_days(storage: FolderStore, ages: list[int]) -> list[str]:
    """Files of these ages in days, with a line each; their names, the oldest first."""
    times = [utc(time.time() - age * DAY) for age in sorted(ages, reverse=True)]
    for at in times:
        storage.audit.append(line() | {"at": at})
    return [f"{at[:10].replace('-', '')}.jsonl" for at in times]


def names(storage: FolderStore) -> list[str]:
    return sorted(os.listdir(f"{storage.root}/audit"))


# --- Files ----------------------------------------------------------------------------------------


def test_only_the_owner_can_read_the_files(storage: FolderStore) -> None:
    old = os.umask(0)
    try:
        storage.audit.append(line())
    finally:
        os.umask(old)
    path = day_file(storage)
    assert [stat.S_IMODE(each.stat().st_mode) for each in (path.parent, path)] == [0o700, 0o600]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_what_root_makes_belongs_to_the_owner_of_the_folder(storage: FolderStore) -> None:
    os.chown(storage.root, 4_242, 4_242)
    storage.audit.append(line())
    path = day_file(storage)
    assert [(each.stat().st_uid, each.stat().st_gid) for each in (path.parent, path)] == [
        (4_242, 4_242)
    ] * 2


def test_a_link_is_not_followed(storage: FolderStore, tmp_path: Path) -> None:
    target = tmp_path / "elsewhere"
    target.write_bytes(b"\n" + encode_entry(line()) + b"\n")
    storage.audit.make_folder()
    day_file(storage).symlink_to(target)
    before = target.read_bytes()
    with pytest.raises(OSError):
        storage.audit.append(line())
    assert target.read_bytes() == before
    page = storage.audit.read(ALL, 10)
    assert (page.entries, page.damaged) == ([], 1)


def test_a_jobs_folder_that_is_missing_is_not_made(tmp_path: Path) -> None:
    storage = FolderStore(tmp_path / "missing", create=False)
    with pytest.raises(FileNotFoundError):
        storage.audit.append(line())
    assert read_all(storage) == [] and not (tmp_path / "missing").exists()


# --- Damage ---------------------------------------------------------------------------------------


def test_a_torn_line_spoils_only_itself(storage: FolderStore) -> None:
    first, second = line(job="a"), line(job="b")
    storage.audit.append(first)
    with open(day_file(storage), "ab") as file:
        file.write(b"\n" + encode_entry(line(job="torn"))[:30])
    storage.audit.append(second)
    page = storage.audit.read(ALL, 10)
    assert (page.entries, page.damaged) == ([second, first], 1)


@pytest.mark.parametrize(
    "damage",
    [b"\xff\xfe", b"[]", b"1", b"{}", b'{"at": 1}', b"[" * 9_999, b"\0" * 5_000, b"x" * 300_000,
     b'{"at": "yesterday", "action": "x", "via": "named"}',
     line_with(at="2026-11-30T00:00:00Z"), line_with(by={}), line_with(count="3"),
     line_with(filter=[]), line_with(job=None), line_with(first_job=1, last_job="x")],
)  # fmt: skip
def test_damaged_lines_are_skipped_and_counted(storage: FolderStore, damage: bytes) -> None:
    first, last = line(job="a"), line(job="b")
    storage.audit.append(first)
    with open(day_file(storage), "ab") as file:
        file.write(damage + b"\n")
    storage.audit.append(last)
    page = storage.audit.read(ALL, 10)
    assert (page.entries, page.damaged, page.next) == ([last, first], 1, None)
    assert storage.audit.read(AuditFilter(by="anna"), 1).entries == [last]


def test_files_that_are_not_days_are_ignored(storage: FolderStore) -> None:
    storage.audit.append(line(job="a"))
    for name in ("notes.txt", "2026.jsonl", "99999999.jsonl", ".jsonl", "20261131.jsonl"):
        (day_file(storage).parent / name).write_bytes(encode_entry(line(job="x")) + b"\n")
    assert [each["job"] for each in read_all(storage)] == ["a"]


def test_a_folder_in_the_place_of_a_day_is_one_damaged_line(storage: FolderStore) -> None:
    make_days(storage, [3])
    day_file(storage).mkdir()
    page = storage.audit.read(ALL, 10)
    assert (len(page.entries), page.damaged) == (1, 1)


# --- Bounds ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("block", [1, 7, 100, 64 << 10])
def test_lines_of_any_length_are_read_backwards(
    storage: FolderStore, monkeypatch: pytest.MonkeyPatch, block: int
) -> None:
    monkeypatch.setattr(audit_files, "BLOCK", block)
    lines = [line(note="ä" * (number * 3)) for number in range(20)]
    for each in lines:
        storage.audit.append(each)
    assert read_all(storage, limit=3) == lines[::-1]


def test_a_request_reads_a_bounded_part(
    storage: FolderStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = [line(job=str(number)) for number in range(50)]
    for each in lines:
        storage.audit.append(each)
    monkeypatch.setattr(audit_files, "SCAN_BYTES", len(encode_entry(lines[0])) * 10)
    page = storage.audit.read(AuditFilter(job="0"), 5)
    assert page.entries == [] and page.next is not None
    assert read_all(storage, AuditFilter(job="0"), 5) == lines[:1]
    assert read_all(storage, limit=100) == lines[::-1]


def test_days_before_the_time_are_not_opened(storage: FolderStore) -> None:
    make_days(storage, [0, 1, 5])
    for name in names(storage)[:1]:
        path = day_file(storage).parent / name
        path.unlink()
        path.mkdir()
    page = storage.audit.read(AuditFilter(since=time.time() - 2 * DAY), 10)
    assert (len(page.entries), page.damaged) == (2, 0)


# --- A full disk ----------------------------------------------------------------------------------


def test_a_line_that_is_cut_off_by_a_full_disk_is_an_error(storage: FolderStore) -> None:
    with files_limited_to(200):
        storage.audit.append(line(job="fits"))
        for _ in range(2):  # the first is cut, the second does not begin
            with pytest.raises(OSError):
                storage.audit.append(line(job="does not"))
    page = storage.audit.read(ALL, 10)
    assert ([each["job"] for each in page.entries], page.damaged) == (["fits"], 1)


def test_on_a_full_disk_a_queue_can_be_resumed_and_the_log_has_the_line(
    client: FlaskClient, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    client.put("/queues/deploys/pause", json={})
    with files_limited_to(1):
        assert client.delete("/queues/deploys/pause").status_code == 204
        client.put("/queues/deploys/pause", json={})
        assert client.delete("/queues/deploys/pause").status_code == 204
    missing = [each.message for each in caplog.records if each.message.startswith("audit:")]
    assert len(missing) == 2, "each line is logged, also if the reason is the same"
    assert json.loads(missing[0].partition(" line=")[2])["queue"] == "deploys"


# --- Retention ------------------------------------------------------------------------------------


def test_days_that_are_too_old_are_deleted_one_by_one(storage: FolderStore) -> None:
    made = make_days(storage, [0, 1, 29, 31, 400])
    trust_clock(storage)
    prune(storage, 0)
    assert names(storage) == made, "0 means: no limit"
    steps = storage.prune(0, 0, 30)
    while len(names(storage)) == 5:
        next(steps)
    assert names(storage) == made[1:]
    for _ in steps:
        pass
    assert names(storage) == made[2:]


def test_a_clock_that_jumped_deletes_nothing(storage: FolderStore) -> None:
    made = make_days(storage, [0, 400])
    trust_clock(storage)
    move_clock(storage, 400 * DAY)
    prune(storage, 30)
    assert names(storage) == made


def test_what_is_not_a_day_is_never_deleted(storage: FolderStore) -> None:
    make_days(storage, [400, 401])
    old = day_file(storage).parent / names(storage)[0]
    old.unlink()
    old.mkdir()
    (old.parent / "notes.txt").touch()
    trust_clock(storage)
    prune(storage, 30)
    assert names(storage) == [old.name, "notes.txt"]
