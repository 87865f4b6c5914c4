"""What the shell completes: in a real bash, and for zsh and fish by the protocol of click."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from command_site import Tailboard
from conftest import BY_HAND, ROOT, need
from other_servers import silent_server

from tailboard.cli import completers
from tailboard.saved_command import SavedCommand

HOSTILE = "evil\n\x1b]52;c;ZXZpbA==\x07 name"


def complete(tailboard: Tailboard, *words: str, **env: str) -> list[tuple[str, str]]:
    """The (value, help) that zsh would offer for the last word."""
    shell = {
        "_TAILBOARD_COMPLETE": "zsh_complete",
        "COMP_WORDS": " ".join(["tailboard", *words]),
        "COMP_CWORD": str(len(words)),
    }
    done = tailboard(**shell, **env)
    assert (done.exit_code, done.stderr) == (0, ""), done.output
    lines = done.stdout.splitlines()
    return list(zip(lines[1::3], lines[2::3], strict=True))


def values(tailboard: Tailboard, *words: str, **env: str) -> list[str]:
    return [value for value, _ in complete(tailboard, *words, **env)]


def test_the_ids_of_the_newest_jobs_come_first(tailboard: Tailboard) -> None:
    jobs = [tailboard.job_maker.queued(name=name) for name in ("old", HOSTILE)]
    ids = [job.id for job in jobs][::-1]
    offered = [(ids[0], "queued: evil  ]52;c;ZXZpbA==  name"), (ids[1], "queued: old")]
    for command in ("logs", "show", "wait", "urgent", "cancel", "rerun", "delete"):
        assert complete(tailboard, command, "") == offered, command
    assert complete(tailboard, "submit", "--after", "") == offered
    assert values(tailboard, "logs", "-f", ids[1]) == [ids[1]]
    assert values(tailboard, "save", "x", "--from", "2") == ids
    assert values(tailboard, "logs", ids[1][-4:]) == []  # the shell keeps what was typed


def test_saved_commands_and_queues_are_offered(tailboard: Tailboard) -> None:
    for name in ("backup", "build"):
        tailboard.storage.saved.save(SavedCommand(saved=name, command=f"make {name}"))
    offered = [("backup", "make backup"), ("build", "make build")]
    for words in (
        ("start",),
        ("saved", "show"),
        ("saved", "pause"),
        ("saved", "delete"),
        ("save",),
    ):
        assert complete(tailboard, *words, "b") == offered, words
    assert values(tailboard, "start", "bu") == ["build"]
    tailboard.job_maker.queued(queue="gpu")
    tailboard.storage.pauses.pause("gpu-2", "", "")
    offered = [("gpu", "1 queued, 0 running"), ("gpu-2", "0 queued, 0 running, paused")]
    for words in (("limit",), ("pause",), ("resume",), ("submit", "--queue"), ("jobs", "--queue")):
        assert complete(tailboard, *words, "gp") == offered, words


def test_commands_options_and_statuses_are_offered(on_folder: Tailboard) -> None:
    assert values(on_folder, "sav") == ["save", "saved"]
    assert "--follow" in values(on_folder, "submit", "--f")
    assert values(on_folder, "jobs", "--status", "f") == ["failed"]
    assert values(on_folder, "submit", "--if-busy", "l") == ["latest"]
    assert values(on_folder, "submit", "--after-status", "") == ["succeeded", "ended"]
    assert values(on_folder, "completion", "") == ["bash", "zsh", "fish"]


def test_contexts_are_offered(on_server: Tailboard) -> None:
    url = on_server.env["TAILBOARD_API"]
    token = on_server.env["TAILBOARD_TOKEN"]
    assert on_server("login", url, "--as", "work", text=token).exit_code == 0
    offered = [("work", url), ("local", "the jobs folder")]
    assert complete(on_server, "--on", "") == complete(on_server, "jobs", "--on", "") == offered
    assert values(on_server, "logout", "w") == ["work"]
    job = on_server.job_maker.queued(queue=BY_HAND)
    without = {"TAILBOARD_API": "", "TAILBOARD_TOKEN": ""}
    assert values(on_server, "--on", "work", "logs", "", **without) == [job.id]
    assert values(on_server, "logs", "--on", "work", "", **without) == [job.id]


def test_nothing_is_offered_if_something_fails(
    on_server: Tailboard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(completers, "PATIENCE", 0.1)
    monkeypatch.chdir(tmp_path)
    with silent_server() as silent:
        failing: list[dict[str, str]] = [
            {"TAILBOARD_API": silent},
            {"TAILBOARD_API": "x"},
            {"TAILBOARD_TOKEN": "wrong"},
            {"TAILBOARD_API": "", "TAILBOARD_CONTEXT": "unknown"},
            {"TAILBOARD_API": "", "TAILBOARD_STORAGE": str(tmp_path / "nowhere")},
            {"TAILBOARD_API": "", "TAILBOARD_KEEP_DAYS": "x"},
        ]
        for env in failing:
            for words in ("logs", "start", "pause"):
                assert values(on_server, words, "", **env) == [], env
    contexts = tmp_path / "config" / "tailboard"
    contexts.mkdir(parents=True)
    (contexts / "contexts.json").write_text("{")
    assert values(on_server, "--on", "") == []
    assert values(on_server, "logs", "", TAILBOARD_API="") == []
    assert not (tmp_path / "nowhere").exists()


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_of_each_shell_is_printed(on_folder: Tailboard, shell: str) -> None:
    done = on_folder("completion", shell)
    assert f"_TAILBOARD_COMPLETE={shell}_complete" in done.stdout and done.stderr == ""
    assert "\ufffd" not in done.stdout
    assert on_folder("completion", "csh").exit_code == 2


def test_fish_gets_a_value_and_its_help(on_folder: Tailboard) -> None:
    job = on_folder.job_maker.queued(name="nightly")
    fish = {
        "_TAILBOARD_COMPLETE": "fish_complete",
        "COMP_WORDS": "tailboard logs ",
        "COMP_CWORD": "",
    }
    assert on_folder(**fish).stdout == f"plain,{job.id}\tqueued: nightly\n"


def test_a_real_bash_completes_a_queue(
    on_folder: Tailboard, tmp_path: Path, home: dict[str, str]
) -> None:
    on_folder.storage.pauses.pause("gpu", "", "")
    program = tmp_path / "bin" / "tailboard"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m tailboard "$@"\n')
    program.chmod(0o755)
    script = """
        eval "$(tailboard completion bash)"
        COMP_WORDS=(tailboard pause g)
        COMP_CWORD=2
        _tailboard_completion tailboard
        printf '%s\\n' "${COMPREPLY[@]}"
        complete -p tailboard
    """
    env = {**os.environ, **home, "PYTHONPATH": str(ROOT), **on_folder.env}
    env["PATH"] = f"{program.parent}:{os.environ['PATH']}"
    done = subprocess.run(
        [need("bash"), "-c", script], env=env, cwd=tmp_path, capture_output=True, text=True
    )
    assert done.stderr == ""
    assert done.stdout == "gpu\ncomplete -o nosort -F _tailboard_completion tailboard\n"
