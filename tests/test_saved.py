"""Saved commands and their schedules: which settings a run may change, when a run is due, and what
becomes of times at which no worker ran. test_store_contract.py checks what every store promises."""

from __future__ import annotations

import json
import os
import re
import subprocess
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from conftest import JobMaker, Processes, RedisServer, quick_worker, wait_until
from flask.testing import FlaskClient
from test_crash import Case

from storage import load_logs
from tailboard.cron import cron_times
from tailboard.folder.folder_store import FolderStore
from tailboard.job import Job
from tailboard.keys import own_key
from tailboard.machines.redis_store import RedisStore
from tailboard.notices import Kind, Request
from tailboard.saved_command import Param, SavedCommand
from tailboard.scheduler import Scheduler, fire_due
from tailboard.schedules import Schedule, ScheduleDecision, due, next_time, parse_schedule
from tailboard.status import Status
from tailboard.values import utc

BERLIN = "Europe/Berlin"  # clocks go from 2 to 3 on 2026-03-29, and from 3 to 2 on 2026-10-25


def at(text: str) -> float:
    """Seconds since 1970 of a time in UTC, like 2026-11-25T03:00."""
    return datetime.fromisoformat(f"{text}+00:00").timestamp()


def hourly(**fields: Any) -> SavedCommand:
    saved = {"saved": "hourly", "command": "true", "cron": "@hourly"}
    return SavedCommand(**saved | {"saved_at": utc(at("2026-11-25T00:30"))} | fields)


def settled(text: str, command: SavedCommand, **fields: Any) -> Schedule:
    """A schedule whose times up to this one have been dealt with."""
    return replace(Schedule(**fields).adapted(command, None), settled=utc(at(text)))


# --- The times of an expression -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cron", "zone", "after", "times"),
    [
        pytest.param("30 2 * * *", BERLIN, "2026-03-28T12:00",
                     ["2026-03-29T01:00", "2026-03-30T00:30"], id="missing-hour-runs-after-it"),
        pytest.param("0,30 2 * * *", BERLIN, "2026-03-28T12:00",
                     ["2026-03-29T01:00", "2026-03-30T00:00"], id="missing-hour-runs-once"),
        pytest.param("30 2 * * *", BERLIN, "2026-10-24T12:00",
                     ["2026-10-25T00:30", "2026-10-26T01:30"], id="doubled-hour-runs-first-time"),
        pytest.param("30 2 * * *", BERLIN, "2026-10-25T01:10",
                     ["2026-10-26T01:30"], id="doubled-hour-seen-from-within"),
        pytest.param("30 * * * *", BERLIN, "2026-10-25T00:00",
                     ["2026-10-25T00:30", "2026-10-25T01:30", "2026-10-25T02:30"],
                     id="every-hour-runs-in-both"),
        pytest.param("30 * * * *", BERLIN, "2026-03-29T00:00",
                     ["2026-03-29T00:30", "2026-03-29T01:30"], id="every-hour-misses-none"),
        pytest.param("*/30 2 * * *", BERLIN, "2026-03-28T12:00",
                     ["2026-03-30T00:00"], id="a-star-in-a-missing-hour-does-not-run"),
        pytest.param("@daily", "Asia/Tokyo", "2026-11-25T00:00",
                     ["2026-11-25T15:00", "2026-11-26T15:00"], id="zone"),
        pytest.param("0 0 29 2 *", "UTC", "2026-01-01T00:00", ["2028-02-29T00:00"], id="leap-day"),
        pytest.param("0 9 * * MON-FRI", "UTC", "2026-11-27T12:00",
                     ["2026-11-30T09:00"], id="working-days"),
    ],
)  # fmt: skip
def test_a_cron_expression_gives_its_times(
    cron: str, zone: str, after: str, times: list[str]
) -> None:
    found = [utc(moment)[:16] for moment in islice(cron_times(cron, zone, at(after)), len(times))]
    assert found == times


@pytest.mark.parametrize(
    ("cron", "sentence"),
    [
        ("60 * * * *", "cron: its minute '60' cannot be read; allowed are * and 0 to 59"),
        ("0 24 * * *", "cron: its hour '24' cannot be read; allowed are * and 0 to 23"),
        ("0 0 0 * *", "cron: its day of the month '0' cannot be read; allowed are * and 1 to 31"),
        ("0 0 * 13 *", "cron: its month '13' cannot be read; allowed are * and 1 to 12"),
        ("0 0 * * mo", "cron: its day of the week 'mo' cannot be read; allowed are * and 0 to 7"),
        ("0 0 31 2 *", "cron: day of the month '31' and day of the week '*' never occur in"),
        ("0 3 * *", "cron: “0 3 * *” has 4 fields; cron needs 5: minute hour day month weekday"),
        ("* * * * * *", "cron: “* * * * * *” has 6 fields; cron needs 5"),
        ("never", "cron: “never” has 1 field; cron needs 5"),
        ("\x1b*", "cron: “\\x1b*” has 1 field"),
        (
            "@reboot",
            "cron: “@reboot” is unknown; allowed are @hourly, @daily, @weekly, @monthly, @",
        ),
        ("@daily 1", "cron: “@daily 1” is unknown; allowed are @hourly"),
        ("²/² * * * 5L#L", "cron: its minute"),
    ],
)
def test_an_error_in_a_cron_expression_names_the_field(cron: str, sentence: str) -> None:
    with pytest.raises(ValueError, match=re.escape(sentence)):
        hourly(cron=cron).check()


@pytest.mark.parametrize("zone", ["Mars/Olympus", "Europe", "../etc/passwd", "", "CEST", "a\0"])
def test_an_unknown_time_zone_is_reported(zone: str) -> None:
    with pytest.raises(ValueError, match="zone must be an IANA name such as UTC"):
        hourly(zone=zone).check()


# --- Due times ------------------------------------------------------------------------------------


def test_a_scheduled_time_starts_a_run() -> None:
    command = hourly()
    seen = settled("2026-11-25T02:00", command, skipped=2)
    assert due(command, seen, at("2026-11-25T03:00") - 0.001) is None
    decision = due(command, seen, at("2026-11-25T03:00"))
    after = replace(seen, settled="2026-11-25T03:00:00.000Z")
    assert decision == ScheduleDecision(
        schedule=after, submits=True, key=own_key("hourly@2026-11-25T03:00Z")
    )
    assert due(command, after, at("2026-11-25T03:00")) is None


@pytest.mark.parametrize(
    ("begin", "now", "reason"),
    [
        ("2026-11-25T03:00", "2026-11-25T04:00", None),
        ("2026-11-25T03:00", "2026-11-25T04:07", "the scheduled run of 2026-11-25 04:00 UTC"),
        ("2026-11-25T01:00", "2026-11-25T04:07",
         "3 scheduled runs between 2026-11-25 02:00 and 04:00 UTC"),
        ("2026-11-24T22:00", "2026-11-25T00:40",
         "2 scheduled runs between 2026-11-24 23:00 and 2026-11-25 00:00 UTC"),
        ("2026-01-01T00:00", "2026-11-25T04:07",
         "more than 1,000 scheduled runs between 2026-01-01 01:00 and 2026-11-25 04:00 UTC"),
    ],
)  # fmt: skip
def test_missed_times_are_replaced_by_one_run_that_says_so(
    begin: str, now: str, reason: str | None
) -> None:
    command = hourly(saved_at="2026-01-01T00:00:00Z")
    decision = due(command, settled(begin, command), at(now))
    assert decision and decision.submits
    assert decision.key == own_key(f"hourly@{now[:13]}:00Z")
    reported = reason and f"replaces {reason}, when no worker was running"
    assert decision.reason == reported


def test_years_of_missed_minutes_are_found_at_once() -> None:
    command = hourly(cron="* * * * *", saved_at="2020-01-01T00:00:00Z")
    decision = due(command, settled("2020-01-01T00:00", command), at("2026-11-25T04:07"))
    assert decision and decision.key == own_key("hourly@2026-11-25T04:07Z")


def test_a_doubled_hour_is_found_among_many_missed_ones() -> None:
    command = hourly(cron="30 2 * * *", zone=BERLIN, saved_at="2020-01-01T00:00:00Z")
    decision = due(command, settled("2020-01-01T00:00", command), at("2026-10-25T01:10"))
    assert decision and decision.key == own_key("hourly@2026-10-25T00:30Z")


def test_times_are_skipped_while_a_run_is_active() -> None:
    command = hourly()
    seen = settled("2026-11-25T01:00", command, skipped=2)
    decision = due(command, seen, at("2026-11-25T03:00"), active="ID")
    assert decision and not decision.submits and decision.skipped == 2
    after = decision.schedule
    assert (after.skipped, after.skipped_for) == (4, "ID")
    assert after.skipped_at == after.settled == "2026-11-25T03:00:00.000Z"


def test_a_state_of_an_earlier_version_has_no_skipped_runs_in_a_row() -> None:
    schedule = parse_schedule(b'{"cron": "@hourly", "skipped": 7, "skipped_for": "ID"}')
    assert (schedule.skipped, schedule.skipped_in_row) == (7, 0)
    with pytest.raises(ValueError, match="it is invalid"):
        parse_schedule(b'{"skipped_in_row": -1}')


@pytest.mark.parametrize("change", [{"cron": None}, {"paused": True}])
def test_a_command_without_a_schedule_or_paused_is_never_due(change: dict[str, Any]) -> None:
    command = hourly(**change)
    assert due(command, settled("2026-11-25T01:00", command), at("2026-11-25T09:00")) is None
    assert next_time(command, Schedule(), at("2026-11-25T09:00")) is None


def test_a_new_command_has_no_times_before_it_was_saved() -> None:
    command = hourly(saved_at="2026-11-25T02:30:00Z")
    assert due(command, Schedule(), at("2026-11-25T02:59")) is None
    decision = due(command, Schedule(), at("2026-11-25T03:00"))
    assert decision and decision.submits and decision.reason is None


def test_a_schedule_changed_by_hand_counts_from_its_files_time() -> None:
    command = hourly(saved_at="2026-11-25T05:30:00Z")
    seen = settled("2026-11-25T01:00", hourly(cron="0 1 * * *"))
    assert due(command, seen, at("2026-11-25T05:59")) is None
    decision = due(command, seen, at("2026-11-25T06:00"))
    assert (
        decision
        and decision.submits
        and decision.reason is None
        and decision.schedule.is_of(command)
    )


def test_a_clock_that_is_set_back_fires_nothing_twice() -> None:
    command = hourly()
    seen = settled("2026-11-25T03:00", command)
    assert due(command, seen, at("2026-11-25T02:10")) is None
    assert due(command, seen, at("2026-11-25T03:30")) is None
    decision = due(command, seen, at("2026-11-25T04:00"))
    assert decision and decision.submits and decision.reason is None


def test_a_time_recorded_far_ahead_does_not_stop_a_schedule() -> None:
    """A clock jumped to 2036 and back: from now on times count again, and none is made up for."""
    command = hourly()
    decision = due(command, settled("2036-01-01T00:00", command), at("2026-11-25T04:10"))
    assert decision and not decision.submits and not decision.skipped
    assert due(command, decision.schedule, at("2026-11-25T04:59")) is None
    later = due(command, decision.schedule, at("2026-11-25T05:00"))
    assert later and later.submits and later.reason is None


@pytest.mark.parametrize(
    ("since", "upcoming"),
    [
        ("2026-11-25T02:30", "2026-11-25T05:00"),
        ("2026-11-25T05:05", "2026-11-25T06:00"),  # by a clock that was ahead a little
        ("2026-12-31T00:00", "2026-11-25T05:00"),
    ],
)
def test_the_next_run_is_the_first_time_that_counts(since: str, upcoming: str) -> None:
    command, now = hourly(), at("2026-11-25T04:10")
    schedule = Schedule().adapted(command, utc(at(since)))
    assert next_time(command, schedule, now) == at(upcoming)
    decision = due(command, schedule, now)
    schedule = decision.schedule if decision else schedule
    due_at = due(command, schedule, at(upcoming))
    assert due(command, schedule, at(upcoming) - 1) is None and due_at and due_at.submits


# --- The values of a run --------------------------------------------------------------------------


def deploy() -> SavedCommand:
    return SavedCommand(
        saved="deploy",
        command='echo "$VERSION to $PLACE"',
        env={"A": "1"},
        params=[
            Param(name="VERSION"),
            Param(name="PLACE", default="test", choices=["test", "live"]),
        ],
    )


def test_values_are_passed_as_variables_and_never_in_the_command_line() -> None:
    job = deploy().job({"VERSION": '"; rm -rf /'})
    assert job.command == 'echo "$VERSION to $PLACE"'
    assert job.env == {"A": "1", "VERSION": '"; rm -rf /', "PLACE": "test"}
    assert (job.saved, job.name) == ("deploy", "deploy")
    assert job.values == {"VERSION": '"; rm -rf /', "PLACE": "test"}


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({}, "VERSION is required: a string"),
        (
            {"VERSION": "1", "PLCE": "x"},
            "deploy has no param 'PLCE'; its params are VERSION, PLACE",
        ),
        ({"VERSION": "1", "PLACE": "mars"}, "PLACE must be one of test, live, not 'mars'"),
        ({"VERSION": 1.2}, "VERSION must be a string, in quotes, not 1.2"),
        ({"VERSION": True}, "VERSION must be a string, in quotes, not True"),
        ({"VERSION": None}, "VERSION is required: a string"),
        ({"VERSION": "a\0"}, "VERSION must be a string of up to 30,000 characters without NUL"),
        ({"VERSION": "a" * 30_001}, "VERSION must be a string of up to 30,000 characters"),
    ],
)
def test_a_missing_or_invalid_value_is_named(
    client: FlaskClient, job_maker: JobMaker, values: dict[str, Any], sentence: str
) -> None:
    job_maker.storage.saved.save(deploy())
    answer = client.post("/saved/deploy/run", json=values)
    assert answer.status_code == 400 and answer.mimetype == "application/problem+json"
    assert answer.get_json()["detail"].startswith(sentence)
    assert job_maker.storage.list()[0] == []


@pytest.mark.parametrize(
    ("params", "sentence"),
    [
        ([Param(name="version")], "params: 'version' must be named [A-Z][A-Z0-9_]*"),
        ([Param(name="JOB_ID")], "params: 'JOB_ID' must be named"),
        ([Param(name="TAILBOARD_TOKEN")], "params: 'TAILBOARD_TOKEN' must be named"),
        ([Param(name="B"), Param(name="B")], "params: B appears twice"),
        ([Param(name="A")], "params: A is already set in env"),
        ([Param(name="B", default="c", choices=["d"])], "params: the default of B must be one"),
        ([Param(name=f"P{n}") for n in range(33)], "there can be at most 32 params, not 33"),
    ],
)  # fmt: skip
def test_inconsistent_params_are_reported(params: list[Param], sentence: str) -> None:
    with pytest.raises(ValueError, match=re.escape(sentence)):
        replace(deploy(), params=params).check()


def test_a_schedule_needs_defaults_for_all_params() -> None:
    with pytest.raises(ValueError, match="VERSION needs a default before this can run on"):
        replace(deploy(), cron="@daily").check()


# --- Over HTTP ------------------------------------------------------------------------------------

BODY: dict[str, Any] = {
    "command": "pg_dump $DATABASE",
    "name": "Backup",
    "queue": "night",
    "cwd": "/tmp",
    "env": {"A": "1"},
    "timeout": 60.5,
    "retries": 1,
    "params": [
        {
            "name": "DATABASE",
            "label": "Which",
            "default": "all",
            "choices": ["all", "one"],
            "secret": False,
        }
    ],
    "cron": "0 3 * * *",
    "zone": "Europe/Berlin",
    "paused": False,
}
TWO_PARAMS = [{"name": "TEXT"}, {"name": "TO", "default": "all"}]


def test_a_command_is_saved_shown_listed_run_and_deleted(client: FlaskClient) -> None:
    answer = client.put("/saved/backup", json=BODY)
    assert (answer.status_code, answer.headers["Location"]) == (201, "/saved/backup")
    reported = answer.get_json()
    assert {name: reported[name] for name in BODY} == BODY
    assert (reported["saved"], reported["last_run"], reported["runs"]) == ("backup", None, [])
    assert reported["skipped"] == {"count": 0, "last_at": None, "for_job": None}
    assert reported["next_run"] > utc() and reported["next_run"].endswith(":00:00.000Z")
    answer = client.post("/saved/backup/run?submitted_by=anna", json={"DATABASE": "one"})
    job = answer.get_json()
    assert (answer.status_code, answer.headers["Location"]) == (201, f"/jobs/{job['id']}")
    assert (job["saved"], job["name"], job["queue"]) == ("backup", "Backup", "night")
    assert (job["env"], job["submitted_by"]) == ({"A": "1", "DATABASE": "one"}, "anna")
    reported = client.get("/saved/backup").get_json()
    assert (reported["last_run"]["id"], reported["last_run"]["status"]) == (job["id"], "queued")
    del reported["env"]
    assert client.get("/saved").get_json() == {"saved": [reported]}
    assert client.delete("/saved/backup").status_code == 204
    assert client.get("/saved").get_json() == {"saved": []}
    assert client.get(f"/jobs/{job['id']}").get_json()["saved"] == "backup"


def test_a_saved_command_can_be_sent_back_as_it_was_read(client: FlaskClient) -> None:
    client.put("/saved/backup", json=BODY)
    reported = client.get("/saved/backup").get_json()
    answer = client.put("/saved/backup", json=reported | {"retries": 2})
    assert (answer.status_code, answer.get_json()["retries"]) == (200, 2)
    assert client.get("/saved/backup").get_json()["params"] == BODY["params"]


def test_two_people_who_edit_a_command_do_not_overwrite_each_other(client: FlaskClient) -> None:
    client.put("/saved/backup", json=BODY)
    seen = {"If-Match": client.get("/saved/backup").headers["ETag"]}
    client.post("/saved/backup/run")
    saved = client.put("/saved/backup", json=BODY | {"retries": 2}, headers=seen)
    assert saved.status_code == 200
    assert saved.headers["ETag"] == client.get("/saved/backup").headers["ETag"]
    late = client.put("/saved/backup", json=BODY | {"retries": 3}, headers=seen)
    assert (late.status_code, late.mimetype) == (412, "application/problem+json")
    assert late.get_json()["detail"] == "saved command 'backup' was changed after you read it"
    assert client.get("/saved/backup").get_json()["retries"] == 2
    client.delete("/saved/backup")
    late = client.put("/saved/backup", json=BODY, headers=seen)
    assert late.get_json()["detail"] == "saved command 'backup' was deleted after you read it"


def test_a_command_can_be_saved_only_if_its_name_is_new(client: FlaskClient) -> None:
    new = {"If-None-Match": "*"}
    assert client.put("/saved/backup", json=BODY, headers=new).status_code == 201
    late = client.put("/saved/backup", json=BODY, headers=new)
    assert late.status_code == 412
    assert late.get_json()["detail"] == "there is already a saved command 'backup'"


@pytest.mark.parametrize(
    ("header", "value"),
    [("If-Match", "*"), ("If-Match", '"a", "b"'), ("If-Match", ""), ("If-None-Match", '"a"')],
)
def test_an_unknown_condition_is_refused(client: FlaskClient, header: str, value: str) -> None:
    answer = client.put("/saved/backup", json=BODY, headers={header: value})
    assert (answer.status_code, answer.get_json()["detail"][: len(header)]) == (400, header)


def test_a_run_without_values_needs_no_body_and_keeps_its_key(client: FlaskClient) -> None:
    client.put("/saved/backup", json=BODY)
    first, again = (
        client.post("/saved/backup/run", headers={"Idempotency-Key": "k"}).get_json()
        for _ in range(2)
    )
    assert first["id"] == again["id"] and first["env"]["DATABASE"] == "all"


def test_a_rerun_is_a_job_of_the_same_saved_command(client: FlaskClient) -> None:
    client.put("/saved/backup", json=BODY)
    job = client.post("/saved/backup/run").get_json()
    again = client.post(f"/jobs/{job['id']}/rerun").get_json()
    assert (again["saved"], again["env"]) == ("backup", job["env"])
    assert again["values"] == job["values"] == {"DATABASE": "all"}
    runs = client.get("/saved/backup").get_json()["runs"]
    assert [run["id"] for run in runs] == [again["id"], job["id"]]


def test_a_list_of_jobs_has_the_values_of_params_and_cuts_long_ones(client: FlaskClient) -> None:
    client.put("/saved/notify", json={"command": "true", "env": {"KEY": "k"}, "params": TWO_PARAMS})
    client.post("/saved/notify/run", json={"TEXT": "x" * 30_000})
    client.post("/jobs", json={"command": "true", "env": {"KEY": "k"}})
    other, run = client.get("/jobs").get_json()["jobs"]
    assert (other["values"], run["values"]) == ({}, {"TEXT": "x" * 500, "TO": "all"})


def test_an_unchanged_list_of_saved_commands_is_not_sent_again(client: FlaskClient) -> None:
    client.put("/saved/backup", json=BODY)
    etag = client.get("/saved").headers["ETag"]
    assert client.get("/saved", headers={"If-None-Match": etag}).status_code == 304
    client.post("/saved/backup/run")
    assert client.get("/saved", headers={"If-None-Match": etag}).status_code == 200


def test_the_last_runs_follow_each_change_of_their_jobs(
    client: FlaskClient, job_maker: JobMaker
) -> None:
    client.put("/saved/backup", json=BODY)

    def shown() -> list[tuple[str, str]]:
        (row,) = client.get("/saved").get_json()["saved"]
        assert client.get("/saved/backup").get_json()["runs"] == row["runs"]
        return [(run["id"], run["status"]) for run in row["runs"]]

    first, second = (client.post("/saved/backup/run").get_json()["id"] for _ in range(2))
    assert shown() == [(second, "queued"), (first, "queued")]
    client.post(f"/jobs/{first}/cancel")
    assert shown() == [(second, "queued"), (first, "cancelled")]
    client.delete(f"/jobs/{first}")
    assert shown() == [(second, "queued")]
    client.post(f"/jobs/{second}/cancel")
    assert shown() == [(second, "cancelled")]
    job_maker.storage.delete(second)  # by another process
    assert shown() == []


def test_the_list_of_saved_commands_reads_each_ended_job_once(
    client: FlaskClient, folder: Path
) -> None:
    client.put("/saved/backup", json=BODY)
    job_id = client.post("/saved/backup/run").get_json()["id"]
    client.post(f"/jobs/{job_id}/cancel")
    before = client.get("/saved").get_json()
    (record,) = folder.glob(f"**/{job_id}/job.json")
    record.write_text("damaged")
    assert client.get("/saved").get_json() == before


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/saved/x"), ("DELETE", "/saved/x"), ("POST", "/saved/x/run"), ("GET", "/saved/%2e")],
)
def test_an_unknown_saved_command_is_404(client: FlaskClient, method: str, path: str) -> None:
    answer = client.open(path, method=method)
    assert answer.status_code == 404 and answer.mimetype == "application/problem+json"
    assert "there is no saved command" in answer.get_json()["detail"]


@pytest.mark.parametrize(
    ("name", "change", "sentence"),
    [
        ("Backup", {}, "the name of a saved command must be 1 to 64 of the characters"),
        ("backup", {"command": None}, "command must be a non-empty shell command line"),
        ("backup", {"cron": "0 25 * * *"}, "cron: its hour '25' cannot be read"),
        ("backup", {"cron": 5}, "cron must be five fields"),
        ("backup", {"zone": "Mars"}, "zone must be an IANA name"),
        ("backup", {"paused": "yes"}, "paused must be true or false"),
        ("backup", {"params": {"DATABASE": "all"}}, "params must be a list of up to 32 objects"),
        ("backup", {"params": [{"name": "A1", "kind": "int"}]}, "params must be a list of up to"),
        ("backup", {"params": [{"name": "a"}]}, "params: 'a' must be named [A-Z][A-Z0-9_]*"),
        ("backup", {"submitted_by": "anna"}, "unknown field 'submitted_by'"),
        ("backup", {"queue": "A B"}, "queue must be 1 to 32"),
    ],
)  # fmt: skip
def test_an_invalid_saved_command_is_refused_in_one_sentence(
    client: FlaskClient, name: str, change: dict[str, Any], sentence: str
) -> None:
    answer = client.put(f"/saved/{name}", json=BODY | change)
    assert answer.status_code == 400, answer.get_json()
    assert answer.get_json()["detail"].startswith(sentence)
    assert client.get("/saved").get_json() == {"saved": []}


def test_too_large_or_too_many_saved_commands_are_refused(
    client: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = client.put("/saved/x", json={"command": ["true", *["x" * 30_000] * 5]})
    assert answer.status_code == 400
    assert "a saved command must have at most 131,072 bytes" in answer.get_json()["detail"]
    monkeypatch.setattr("tailboard.saved_command.MAX_SAVED", 0)
    answer = client.put("/saved/x", json={"command": "true"})
    assert (answer.status_code, answer.get_json()["status"]) == (409, 409)
    assert answer.get_json()["detail"].endswith("saved commands: delete one first")


def test_a_body_of_another_type_is_not_saved(client: FlaskClient) -> None:
    assert client.put("/saved/x", data="command=true").status_code == 415
    assert client.put("/saved/x").status_code == 400


# --- In the folder --------------------------------------------------------------------------------


def test_a_file_copied_into_the_folder_is_a_saved_command(
    client: FlaskClient, folder: Path
) -> None:
    client.put("/saved/a", json={"command": "true"})
    (folder / "saved" / "b.json").write_text('{"command": "echo $X", "params": [{"name": "X"}]}')
    listed = client.get("/saved").get_json()["saved"]
    assert [each["saved"] for each in listed] == ["a", "b"]
    assert client.post("/saved/b/run", json={"X": "1"}).get_json()["env"] == {"X": "1"}


@pytest.mark.parametrize(
    ("name", "content", "why"),
    [
        ("bad", "{", "Expecting property name"),
        ("bad", "[]", "it is not a JSON object"),
        ("bad", '{"command": 5}', "its command is invalid"),
        ("bad", '{"command": "a", "env": {"A": 1}}', "its env is invalid"),
        ("bad", '{"command": "a", "cron": "x"}', "cron: “x” has 1 field"),
        ("bad", '{"command": "a", "params": [{"name": "JOB_ID"}]}', "params: 'JOB_ID' must be"),
        ("bad", '{"command": "a", "params": [{"name": "A", "choices": []}]}', "its param 'A' is"),
        ("Bad", '{"command": "a"}', "its name must be 1 to 64"),
    ],
)  # fmt: skip
def test_a_damaged_file_is_skipped_and_named(
    client: FlaskClient, folder: Path, name: str, content: str, why: str
) -> None:
    client.put("/saved/good", json={"command": "true"})
    (folder / "saved" / f"{name}.json").write_text(content)
    assert [each["saved"] for each in client.get("/saved").get_json()["saved"]] == ["good"]
    (reported,) = client.get("/workers").get_json()["unreadable"]
    assert reported.startswith(f"saved/{name}.json: ") and why in reported
    assert client.get(f"/saved/{name}").status_code == 404
    (folder / "saved" / f"{name}.json").unlink()
    assert client.get("/workers").get_json()["unreadable"] == []


def test_a_damaged_schedule_state_counts_from_its_files_time(
    storage: FolderStore, folder: Path
) -> None:
    storage.saved.save(hourly())
    state = folder / "schedules" / "hourly.state"
    state.write_text("{")
    os.utime(state, (at("2026-11-25T01:10"),) * 2)
    saved = folder / "saved" / "hourly.json"
    os.utime(saved, (at("2026-11-24T01:10"),) * 2)
    job = fire_due(storage, storage.saved.load("hourly"), at("2026-11-25T03:10"))
    assert (
        job
        and job.submit_reason
        and "2 scheduled runs between 2026-11-25 02:00 and 03:00" in job.submit_reason
    )
    assert storage.unreadable() == []


# --- A worker -------------------------------------------------------------------------------------


class Clock:
    """A clock that the test sets."""

    def __init__(self, text: str) -> None:
        self.now = at(text)

    def __call__(self) -> float:
        return self.now


def test_a_scheduler_fires_on_the_minute_and_knows_the_next_one(storage: FolderStore) -> None:
    storage.saved.save(hourly())
    storage.saved.save(SavedCommand(saved="plain", command="true"))
    clock = Clock("2040-11-25T03:00")
    scheduler = Scheduler(storage, clock)
    settle(storage, "2040-11-25T03:00")
    scheduler.fire_all_due()
    assert storage.list()[0] == []
    clock.now = at("2040-11-25T03:59") + 58
    scheduler.fire_all_due()
    assert scheduler.next_look - time.monotonic() <= 2
    clock.now = at("2040-11-25T04:00")
    scheduler.fire_all_due()
    (job,) = storage.list()[0]
    assert (job.saved, job.as_dict()["reason"]) == ("hourly", None)
    scheduler.fire_all_due()
    assert len(storage.list()[0]) == 1


def test_a_scheduler_defers_slow_work_to_its_next_pass(
    storage: FolderStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The worker supervises its jobs between two schedules; here, after each command."""
    monkeypatch.setattr("tailboard.intervals.FIRE_TIME", 0.0)
    names = [f"hourly{number}" for number in range(3)]
    for name in names:
        storage.saved.save(hourly(saved=name))
        settle(storage, "2040-11-25T03:00", name)
    scheduler = Scheduler(storage, Clock("2040-11-25T04:00"))
    for count in (1, 2, 3):
        assert scheduler.is_due()
        scheduler.fire_all_due()
        assert len(storage.list()[0]) == count
    assert not scheduler.is_due()
    assert sorted(str(job.saved) for job in storage.list()[0]) == names
    scheduler.fire_all_due()
    assert len(storage.list()[0]) == 3


def settle(storage: FolderStore, text: str, name: str = "hourly") -> None:
    """Sets the state of a schedule by hand."""
    path = Path(storage.root, "schedules", f"{name}.state")
    state = json.loads(path.read_text())
    path.write_text(json.dumps(state | {"since": None, "settled": utc(at(text))}))


def test_a_schedule_saved_with_a_fast_clock_is_corrected_once(
    storage: FolderStore, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    storage.saved.save(hourly())
    clock = Clock(utc(time.time() - 40 * 86_400)[:13] + ":10")
    scheduler = Scheduler(storage, clock)
    state = folder / "schedules" / "hourly.state"
    files = set()
    for _ in range(5):
        scheduler.plans.clear()  # as at its next check
        scheduler.fire_all_due()
        files.add(state.stat().st_ino)
    assert len(files) == 1, "each write makes a new file"
    assert caplog.text.count("schedule counts from now saved=hourly") == 1
    clock.now += 3600
    scheduler.fire_all_due()
    (job,) = storage.list()[0]
    assert job.saved == "hourly"


def test_a_scheduler_notices_a_changed_command(storage: FolderStore) -> None:
    clock = Clock("2040-11-25T03:10")
    scheduler = Scheduler(storage, clock)
    scheduler.fire_all_due()
    storage.saved.save(hourly())
    settle(storage, "2040-11-25T03:00")
    scheduler.fire_all_due()
    storage.saved.save(hourly(cron="20 * * * *"))
    settle(storage, "2040-11-25T03:00")
    clock.now = at("2040-11-25T03:20")
    scheduler.fire_all_due()
    assert len(storage.list()[0]) == 1
    storage.saved.delete("hourly")
    clock.now = at("2040-11-25T04:20")
    scheduler.fire_all_due()
    assert len(storage.list()[0]) == 1


def test_a_failing_schedule_never_stops_the_others(storage: FolderStore, folder: Path) -> None:
    for name in ("a", "b", "c"):
        storage.saved.save(hourly(saved=name))
        settle(storage, "2040-11-25T03:00", name)
    (folder / "schedules" / "b.runs").mkdir()  # its jobs cannot be recorded
    scheduler = Scheduler(storage, Clock("2040-11-25T04:00"))
    scheduler.fire_all_due()
    assert sorted(str(job.saved) for job in storage.list()[0]) == ["a", "c"]
    assert list(scheduler.errors.current) == ["schedule=b"]
    (folder / "schedules" / "b.runs").rmdir()
    for _ in range(2):  # it notices the interruption and completes the run
        scheduler.clock = Clock("2040-11-25T04:01")
        scheduler.plans.clear()
        scheduler.fire_all_due()
    assert sorted(str(job.saved) for job in storage.list()[0]) == ["a", "b", "c"]
    assert scheduler.errors.current == {}


def missed(storage: FolderStore, command: str, hours: int = 3, **fields: Any) -> None:
    """Saves a command and lets this many of its times pass without a worker."""
    storage.saved.save(hourly(command=command, **fields))
    text = utc(time.time() // 3600 * 3600 - hours * 3600)
    settle(storage, text[:16])


def test_a_worker_that_returns_replaces_all_missed_runs_by_one(
    storage: FolderStore, worker: Callable[..., subprocess.Popen[bytes]],
    ended: Callable[..., Job], processes: Processes,
) -> None:  # fmt: skip
    missed(storage, "echo $P", params=[Param(name="P", default="grüße")])
    worker()
    job = ended(wait_until(lambda: storage.list()[0], 60, processes.text)[0])
    assert (job.status, load_logs(storage, job.id)) == (Status.SUCCEEDED, "grüße\n")
    reason = str(job.as_dict()["reason"])
    assert re.fullmatch(
        r"replaces [34] scheduled runs between .* UTC, when no worker was running", reason
    )
    assert len(storage.saved.runs("hourly")) == 1


def test_a_draining_worker_fires_nothing(storage: FolderStore, drain: Callable[..., None]) -> None:
    missed(storage, "true")
    drain()
    assert storage.list()[0] == []


def test_a_worker_fires_at_the_next_minute(
    storage: FolderStore, processes: Processes, ended: Callable[..., Job]
) -> None:
    """The worker starts with a clock that shows a moment before the next minute."""
    storage.saved.save(SavedCommand(saved="often", command="true", cron="* * * * *"))
    shift = 3 * 60 + 57 - time.time() % 60
    settle(storage, utc(time.time() + shift)[:16], "often")
    command = ["-m", "tests.programs.shifted_worker", str(shift)]
    processes.start(quick_worker()[0], *command)
    job = ended(wait_until(lambda: storage.list()[0], 60, processes.text)[0])
    assert (job.status, job.as_dict()["reason"]) == (Status.SUCCEEDED, None)


def test_a_scheduler_killed_at_any_step_starts_one_job(
    tmp_path: Path, processes: Processes, full: bool
) -> None:
    """The worker is killed before each step of starting a run; the next worker completes it."""

    def scene(number: int) -> Case:
        place = tmp_path / str(number)
        place.mkdir()
        case = Case(place, processes)
        rules = [{"on": ["missed"], "to": "ops"}]
        case.storage.saved.save(hourly(command=f"echo run >>{case.tally}", notify=rules))
        settle(case.storage, utc(time.time() // 3600 * 3600 - 2 * 3600)[:16])
        return case

    alive = scene(0)
    steps = alive.die_at(0, "fire", str(alive.folder), "hourly")
    assert len(alive.storage.saved.runs("hourly")) == 1
    assert "fsync" in " ".join(steps)
    for number in range(1, len(steps) + 1, 1 if full else 5):
        case = scene(number)
        case.die_at(number, "fire", str(case.folder), "hourly")
        for _ in range(3):  # another worker notices the interruption and completes the run
            fire_due(case.storage, case.storage.saved.load("hourly"), time.time())
        jobs = case.storage.list()[0]
        assert len(jobs) == 1, steps[:number]
        assert jobs[0].id in case.storage.saved.runs("hourly")
        schedule = case.storage.saved.load_schedule("hourly")
        assert (schedule.firing, schedule.skipped) == (None, 0)
        missed = Request(jobs[0].id, Kind.MISSED, 0.0, str(jobs[0].submit_reason))
        assert case.storage.notices.requests(time.time()) == [missed], steps[:number]


@pytest.mark.parametrize("has_job", [True, False])
def test_a_run_that_an_earlier_version_was_starting_is_started_once(
    storage: FolderStore, folder: Path, has_job: bool
) -> None:
    """It was killed between `firing` and `settled`; its key had nothing before NAME@TIME."""
    storage.saved.save(hourly())
    settle(storage, "2040-11-25T03:00")
    path = folder / "schedules" / "hourly.state"
    state = json.loads(path.read_text()) | {"firing": "2040-11-25T04:00:00.000Z"}
    path.write_text(json.dumps(state))
    key = "hourly@2040-11-25T04:00Z"
    by = "schedule" if has_job else "a client that uses the same key"
    old = storage.submit(Job(command="true", saved="hourly", submitted_by=by, queue="old"), key)
    if not has_job:
        storage.cancel(old.id, "")
    for _ in range(3):
        fire_due(storage, storage.saved.load("hourly"), at("2040-11-25T04:00"))
    made = [job for job in storage.list()[0] if job.submitted_by == "schedule"]
    assert len(made) == 1
    assert (made[0].id == old.id) is has_job


# --- Several machines -----------------------------------------------------------------------------


def test_workers_of_two_machines_start_one_run(
    redis: RedisServer, tmp_path: Path, processes: Processes
) -> None:
    store = RedisStore(redis.url)
    store.saved.save(hourly(command="true"))
    state = json.loads(redis.do("HGET", "tailboard:schedules", "hourly"))
    state |= {"since": None, "settled": utc(time.time() // 3600 * 3600 - 2 * 3600)}
    redis.do("HSET", "tailboard:schedules", "hourly", json.dumps(state))
    for name in ("a", "a", "b"):
        env = {"TAILBOARD_STORAGE": redis.url, "TAILBOARD_SPOOL": str(tmp_path / name)}
        processes.start(*quick_worker(), **env)
    wait_until(lambda: len(store.workers()) == 3, 60, processes.text)
    job_id = wait_until(lambda: store.saved.runs("hourly"), 60, processes.text)[0]
    wait_until(lambda: store.status(job_id) is Status.SUCCEEDED, 60, processes.text)
    assert processes.text().count("fired saved=hourly") == 1
    assert "replaces 2 scheduled runs" in str(store.get(job_id).as_dict()["reason"])
    store.close()


def test_a_damaged_command_in_redis_is_skipped_and_named(redis: RedisServer) -> None:
    store = RedisStore(redis.url)
    store.saved.save(hourly())
    redis.do("HSET", "tailboard:saved", "bad", "{")
    redis.do("HSET", "tailboard:schedules", "hourly", "{")
    assert [command.saved for command in store.saved.list()] == ["hourly"]
    reported = store.unreadable()
    assert [text.partition(":")[0] for text in reported] == ["saved/bad", "schedules/hourly"]
    assert fire_due(store, store.saved.load("hourly"), time.time()) is None
    redis.do("HDEL", "tailboard:saved", "bad")
    fire_due(store, store.saved.load("hourly"), time.time() + 7200)
    assert store.unreadable() == []
    store.close()
