"""The keys of saved commands, which can contain the values of params, and `if_busy` of those that
run on a schedule."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import RedisServer
from flask.testing import FlaskClient
from test_saved import at, hourly

from tailboard.folder.folder_store import FolderStore
from tailboard.job import Job
from tailboard.key_template import fill_key, names_in, plain_template
from tailboard.machines.redis_store import RedisStore
from tailboard.saved_command import Param, SavedCommand
from tailboard.scheduler import fire_due


def deploy(key: str | None, **fields: Any) -> SavedCommand:
    params = [Param(name="ENV"), Param(name="ENV_2", default="b")]
    return SavedCommand(saved="deploy", command="true", key=key, params=params, **fields)


@pytest.mark.parametrize(
    ("key", "filled"),
    [
        ("deploy", "deploy"),
        ("deploy-$ENV", "deploy-live"),
        ("$ENV_2-${ENV}_2", "b-live_2"),
        ("$$ENV costs $$5", "$ENV costs $5"),
        ("$$$ENV", "$live"),
        (None, None),
    ],
)
def test_a_key_is_filled_with_the_values_of_params(key: str | None, filled: str | None) -> None:
    command = deploy(key)
    command.check()
    assert command.job({"ENV": "live"}).key == filled


def test_without_a_key_a_command_that_says_what_to_do_if_busy_has_its_name_as_key() -> None:
    job = deploy(None, if_busy="skip").job({"ENV": "live"})
    assert (job.key, job.if_busy) == ("deploy", "skip")


@pytest.mark.parametrize(
    ("key", "sentence"),
    [
        ("$HOME", "key may use only its own params: ENV, ENV_2; not $HOME"),
        ("a-${HOME}-b", "key may use only its own params: ENV, ENV_2; not ${HOME}"),
        ("$ENVIRONMENT", "key may use only its own params: ENV, ENV_2; not $ENVIRONMENT"),
        ("$env", "key may use only its own params: ENV, ENV_2; not $env"),
        ("$5", "key may use only its own params: ENV, ENV_2; not $5"),
        ("5 $", "key may use only its own params: ENV, ENV_2; not $ (write $$ for a dollar sign)"),
        ("$(id)", "key may use only its own params: ENV, ENV_2; not $( (write $$ for a dollar"),
        ("${ENV", "key may use only its own params: ENV, ENV_2; not ${ (write $$ for a dollar"),
        ("${}", "key may use only its own params: ENV, ENV_2; not ${} (write $$ for a dollar"),
        ("a\nb", r"key must be 1 to 64 characters of one line, not 'a\nb'"),
        ("x" * 65, "key must be a string of 1 to 64 characters"),
    ],
)
def test_a_key_that_no_run_can_have_is_refused_when_the_command_is_saved(
    client: FlaskClient, key: str, sentence: str
) -> None:
    body = {"command": "true", "key": key, "params": [{"name": "ENV"}, {"name": "ENV_2"}]}
    answer = client.put("/saved/deploy", json=body)
    assert (answer.status_code, answer.get_json()["detail"][: len(sentence)]) == (400, sentence)
    assert client.get("/saved").get_json() == {"saved": []}


def test_a_command_without_params_has_none_in_its_key() -> None:
    with pytest.raises(ValueError, match=re.escape("only its own params: none; not $ENV")):
        SavedCommand(saved="a", command="true", key="$ENV").check()


@pytest.mark.parametrize("value", ["", "x" * 65, "a\nb", " "])
def test_a_run_whose_key_would_be_invalid_is_refused(client: FlaskClient, value: str) -> None:
    client.put("/saved/a", json={"command": "true", "key": "$ENV", "params": [{"name": "ENV"}]})
    answer = client.post("/saved/a/run", json={"ENV": value})
    assert answer.status_code == 400
    begin = "key must be 1 to 64 characters of one line, not '"
    assert answer.get_json()["detail"].startswith(begin)


def test_a_jobs_own_key_is_used_as_it_is_and_can_be_saved(
    on_folder: Any, client: FlaskClient
) -> None:
    job = client.post("/jobs", json={"command": "true", "key": "a $5 $ENV"}).get_json()
    assert job["key"] == "a $5 $ENV"
    on_folder("save", "again", "--from", job["id"])
    assert on_folder.storage.saved.load("again").key == "a $$5 $$ENV"
    rerun = client.post("/saved/again/run").get_json()
    assert (rerun["key"], names_in("a $$5")) == (job["key"], set())
    assert fill_key(plain_template("$$A${B}"), {}) == "$$A${B}"


def test_the_commands_save_and_show_a_key(on_folder: Any) -> None:
    words = "--param ENV --key deploy-$ENV --if-busy latest --urgent"
    assert on_folder("save", "deploy", "true", *words.split()).stdout == "saved deploy\n"
    shown = on_folder("saved", "show", "deploy").stdout
    for label, text in (("key", "deploy-$ENV"), ("if busy", "latest"), ("urgent", "yes")):
        assert re.search(rf"^{label} +{re.escape(text)}$", shown, re.MULTILINE), shown


# --- Schedules ------------------------------------------------------------------------------------

STORES = ["folder", "redis"]
Store = FolderStore | RedisStore


@pytest.fixture(params=STORES)
def store(request: pytest.FixtureRequest, folder: Path) -> Any:
    if request.param == "folder":
        found: Store = request.getfixturevalue("storage")
    else:
        server: RedisServer = request.getfixturevalue("redis")
        found = RedisStore(server.url)
        request.addfinalizer(found.close)
    return found


Fire = Callable[[str], Job | None]


@pytest.fixture
def fire(store: Store) -> Callable[..., Fire]:
    """Saves a command that runs every hour, and fires it once; the result fires it at a time."""

    def save(**fields: Any) -> Fire:
        store.saved.save(hourly(**fields))

        def fire(text: str) -> Job | None:
            return fire_due(store, store.saved.load("hourly"), at(text))

        fire("2040-11-25T01:59")
        return fire

    return save


def statuses(store: Store) -> dict[str, str]:
    return {job.id: job.status for job in store.list()[0]}


def test_by_default_a_schedule_skips_a_time_while_any_run_is_active(
    store: Store, fire: Callable[..., Fire]
) -> None:
    fire_at = fire(key="shared")
    (first,) = store.list()[0]
    assert fire_at("2040-11-25T02:00") is None
    schedule = store.saved.load_schedule("hourly")
    assert (schedule.skipped, schedule.skipped_for) == (1, first.id)


def test_a_schedule_skips_a_time_while_another_job_has_the_key(
    store: Store, fire: Callable[..., Fire]
) -> None:
    other = store.submit(Job(command="true", key="shared"))
    fire_at = fire(key="shared", if_busy="skip")
    before = store.saved.load_schedule("hourly").skipped
    assert before > 0
    assert fire_at("2040-11-25T02:00") is None
    schedule = store.saved.load_schedule("hourly")
    assert (schedule.skipped, schedule.skipped_for) == (before + 1, other.id)
    assert schedule.firing is None
    assert list(statuses(store)) == [other.id]
    store.cancel(other.id, "")
    run = fire_at("2040-11-25T03:00")
    assert run is not None and (run.key, run.submit_reason) == ("shared", None)
    assert store.saved.load_schedule("hourly").skipped == before + 1


def test_a_schedule_submits_jobs_that_wait_for_their_turn(
    store: Store, fire: Callable[..., Fire]
) -> None:
    fire_at = fire(if_busy="wait")
    second = fire_at("2040-11-25T02:00")
    assert second is not None and second.key == "hourly"
    assert list(statuses(store).values()) == ["queued", "queued"]
    assert store.saved.load_schedule("hourly").skipped == 0


@pytest.mark.parametrize("if_busy", ["latest", "replace"])
def test_a_scheduled_run_replaces_an_earlier_one_that_waits(
    store: Store, fire: Callable[..., Fire], if_busy: str
) -> None:
    fire_at = fire(if_busy=if_busy)
    (first,) = store.list()[0]
    second = fire_at("2040-11-25T02:00")
    assert second is not None
    assert statuses(store) == {second.id: "queued", first.id: "cancelled"}
    assert store.get(first.id).reason == f"replaced by {second.id}"
