"""The audit log in each storage: what is appended can be read, by whom, since when and how much of
it; and what damage, a full disk and retention do to it."""

from __future__ import annotations

import time
from typing import Any

import pytest
from conftest import RedisServer, in_processes, open_store, wait_until

from storage import WorkerStore
from tailboard.audit import (
    MAX_TEXT,
    Action,
    Actor,
    AuditFilter,
    Entry,
    encode_entry,
    job_range,
    new_entry,
)
from tailboard.machines import redis_audit
from tailboard.machines.redis_store import RedisStore
from tailboard.values import new_id, utc

ALL = AuditFilter()
ANNA = Actor("anna", "named", "192.0.2.7")
DAY = 86_400


def line(action: Action = Action.CANCEL, actor: Actor = ANNA, **subject: Any) -> Entry:
    return new_entry(action, actor, subject)


def read_all(store: WorkerStore, wanted: AuditFilter = ALL, limit: int = 100) -> list[Entry]:
    """All lines that are wanted, page by page."""
    found, before = [], None
    for _ in range(1_000):
        page = store.audit.read(wanted, limit, before)
        assert len(page.entries) <= limit
        found += page.entries
        before = page.next
        if before is None:
            return found
    raise AssertionError("the log does not end")


# --- The contract ---------------------------------------------------------------------------------


def test_lines_are_read_newest_first(store: WorkerStore) -> None:
    assert store.audit.read(ALL, 10).entries == []
    lines = [line(job=new_id(), note="grüße\n\x00") for _ in range(3)]
    for each in lines:
        store.audit.append(each)
    page = store.audit.read(ALL, 10)
    assert (page.entries, page.next, page.damaged) == (lines[::-1], None, 0)


@pytest.mark.parametrize("limit", [1, 2, 7, 100])
def test_a_page_leads_to_the_next_until_the_log_ends(store: WorkerStore, limit: int) -> None:
    lines = [line(job=new_id()) for _ in range(6)]
    for each in lines:
        store.audit.append(each)
    assert read_all(store, limit=limit) == lines[::-1]
    page = store.audit.read(ALL, 6)
    assert page.next is None, "the last page is known to be the last"


def test_a_line_that_is_appended_meanwhile_moves_no_page(store: WorkerStore) -> None:
    lines = [line(job=new_id()) for _ in range(4)]
    for each in lines:
        store.audit.append(each)
    first = store.audit.read(ALL, 2)
    store.audit.append(line(job="later"))
    assert store.audit.read(ALL, 2, first.next).entries == lines[1::-1]


def test_lines_can_be_chosen_by_time_name_and_job(store: WorkerStore) -> None:
    ids = [new_id() for _ in range(5)]
    old = line(job=ids[0]) | {"at": utc(time.time() - 60)}
    bens = line(Action.RERUN, Actor("ben", "named", None), job=ids[1], rerun_of=ids[0])
    nobodys = line(Action.PAUSE, Actor(None, "shared", "192.0.2.8"), queue="default")
    bulk = line(count=3, filter={"status": "failed"}, **job_range(ids[2:]))
    for each in (old, bens, nobodys, bulk):
        store.audit.append(each)
    assert read_all(store, AuditFilter(since=time.time() - 30)) == [bulk, nobodys, bens]
    assert read_all(store, AuditFilter(by="ben")) == [bens]
    assert read_all(store, AuditFilter(job=ids[0])) == [bens, old]
    assert read_all(store, AuditFilter(job=ids[3])) == [bulk]
    assert read_all(store, AuditFilter(job=ids[1], by="anna")) == []


@pytest.mark.parametrize(
    "place", ["", "x", "1", "20261130", "1.2.3", "-", "20261130.-1", "9" * 99, "0-0"]
)
def test_a_place_of_another_form_is_refused(store: WorkerStore, place: str) -> None:
    store.audit.append(line())
    with pytest.raises(ValueError, match="before must be the value of `next`"):
        store.audit.read(ALL, 10, place)


def test_processes_that_append_at_once_lose_no_line(store: WorkerStore, store_url: str) -> None:
    code = f"""if True:
        from tailboard.audit import Action, Actor, new_entry
        store, me = open_store({store_url!r}), str(os.getpid())
        for number in range(200):
            subject = {{"job": f"{{me}}-{{number}}", "note": "x" * (number % 190)}}
            store.audit.append(new_entry(Action.SUBMIT, Actor(me, "named", None), subject))
        print(me)
    """
    pids = [output.strip() for output in in_processes(3, "import os\n" + code)]
    jobs = [each["job"] for each in read_all(store)]
    assert len(jobs) == 600 and store.audit.read(ALL, 1).damaged == 0
    for pid in pids:
        own = [job for job in jobs if job.startswith(f"{pid}-")]
        assert own == [f"{pid}-{number}" for number in range(200)][::-1]


def test_a_line_is_bounded(store: WorkerStore) -> None:
    store.audit.append(
        line(filter={"q": "ä" * 5_000}, fields=["x" * 300], saved="\U0001f319" * 300)
    )
    [found] = read_all(store)
    texts = [found["filter"]["q"], found["saved"], *found["fields"]]
    assert [len(text) for text in texts] == [MAX_TEXT] * 3
    assert found["filter"]["q"] == "ä" * (MAX_TEXT - 1) + "…"


def test_text_that_is_not_unicode_is_no_error(store: WorkerStore) -> None:
    store.audit.append(line(saved="a\ud800b"))
    assert read_all(store)[0]["saved"] == "a?b"


def test_old_days_are_deleted_by_the_given_clock(store: WorkerStore) -> None:
    now = time.time()
    store.audit.append(line(job="kept"))
    list(store.audit.prune(365, now))
    assert len(read_all(store)) == 1
    list(store.audit.prune(0, now + 1_000 * DAY))
    assert len(read_all(store)) == 1, "0 means: no limit"
    list(store.audit.prune(2, now + 1 * DAY))
    assert len(read_all(store)) == 1
    list(store.audit.prune(2, now + 4 * DAY))
    assert read_all(store) == []


def test_redis_reads_nothing_from_before_the_time(
    redis_url: str, shared_redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A request reads as many lines as it may, so it would need further ones for those that are not
    wanted anyway."""
    store, now = RedisStore(redis_url), time.time()
    for age in range(9, -1, -1):
        old = encode_entry(line() | {"at": utc(now - age * DAY)})
        entry_id = str(int((now - age * DAY) * 1000))
        shared_redis.do("XADD", "tailboard:audit", entry_id, "line", old)
    monkeypatch.setattr(redis_audit, "STEP", 3)
    monkeypatch.setattr(redis_audit, "MOST_STEPS", 1)
    page = store.audit.read(AuditFilter(since=now - 1.5 * DAY), 10)
    assert (len(page.entries), page.next) == (2, None)
    assert store.audit.read(ALL, 10).next is not None
    store.close()


def test_an_api_whose_clock_is_ahead_of_that_of_redis_finds_its_lines(redis_url: str) -> None:
    store, ahead = RedisStore(redis_url), time.time() + 1_800
    store.audit.append(line() | {"at": utc(ahead)})
    assert len(read_all(store, AuditFilter(since=ahead - 60))) == 1
    store.close()


def test_redis_frees_the_memory_of_old_lines(redis_url: str, shared_redis: RedisServer) -> None:
    store = RedisStore(redis_url)
    for _ in range(3):
        store.audit.append(line())
    [(entry_id, _)] = shared_redis.do("XREVRANGE", "tailboard:audit", "+", "-", "COUNT", "1")
    last = int(entry_id.decode().partition("-")[0])
    shared_redis.do("SET", "tailboard:audit-from", str(last + 1))
    wait_until(lambda: store.now() * 1000 > last + 1)
    store.audit.append(line(job="new"))
    assert shared_redis.do("XLEN", "tailboard:audit") == 1
    damage = [("SET", text) for text in ("x", "-5", "", "9" * 30)]
    for command, text in (*damage, ("SADD", "x")):
        shared_redis.do("DEL", "tailboard:audit-from")
        shared_redis.do(command, "tailboard:audit-from", text)
        store.audit.append(line(job=text))
        assert read_all(store)[0]["job"] == text
    store.close()


def test_another_process_reads_the_same_log(store: WorkerStore, store_url: str) -> None:
    store.audit.append(line(job="a"))
    assert [each["job"] for each in read_all(open_store(store_url))] == ["a"]
