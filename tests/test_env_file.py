"""The file `.env`: what the programs read from it, and which files they refuse. That all three read
it is tested in test_install.py."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT, Processes

from tailboard.env_file import env_file_names, load_env_file


@pytest.fixture
def env_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A path for `.env` in the current folder, and an environment that reads it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(os, "environ", {"HOME": "/home/anna"})
    return tmp_path / ".env"


def test_without_a_file_nothing_is_set(env_file: Path) -> None:
    assert load_env_file() is None
    env_file.mkdir()
    assert load_env_file() is None


def test_the_file_sets_variables_that_are_not_set(env_file: Path) -> None:
    env_file.write_text(
        "# settings\n\nexport TAILBOARD_KEEP_DAYS=7 # a week\n"
        "HOME=/root\nEMPTY=\nNAME='a # b'\nPLACE=${NAME}/x#y\n"
    )
    assert load_env_file() == env_file
    given = {
        "TAILBOARD_KEEP_DAYS": "7",
        "EMPTY": "",
        "NAME": "a # b",
        "PLACE": "a # b/x#y",
    }
    assert os.environ.items() >= {"HOME": "/home/anna", **given}.items()
    assert env_file_names(os.environ) == given.keys()
    assert env_file_names({"NAME": "other", "EMPTY": ""}) == {"EMPTY"}


def test_a_program_that_honcho_starts_reads_the_same_values(
    env_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    env_file.write_text("HOOK=https://chat.example.org/#room\nHOME=/root\n")
    monkeypatch.setitem(os.environ, "HOOK", "https://chat.example.org/")  # as honcho parses it
    monkeypatch.setitem(os.environ, "HONCHO_PROCESS_NAME", "worker.1")
    load_env_file()
    assert (os.environ["HOOK"], os.environ["HOME"]) == ("https://chat.example.org/#room", "/root")


@pytest.mark.parametrize("skip, is_read", [("1", False), ("true", False), ("0", True), ("", True)])
def test_the_variable_of_flask_turns_the_file_off(
    env_file: Path, monkeypatch: pytest.MonkeyPatch, skip: str, is_read: bool
) -> None:
    env_file.write_text("NAME=1\n")
    monkeypatch.setitem(os.environ, "FLASK_SKIP_DOTENV", skip)
    assert load_env_file() == (env_file if is_read else None)
    assert env_file_names(os.environ) == ({"NAME"} if is_read else set())


@pytest.mark.parametrize(
    "content, said",
    [
        (b"A=1\n\nTAILBOARD_TOKEN\n", "{}, line 3: must be NAME=VALUE"),
        (b"A=1\nB='no end\n", "{}, line 2: must be NAME=VALUE"),
        (b"A=1\0\n", "{}, line 1: must be NAME=VALUE"),
        (b"A=\xff\n", "{} must be UTF-8 text"),
    ],
)
def test_a_bad_file_is_refused_with_one_sentence(env_file: Path, content: bytes, said: str) -> None:
    env_file.write_bytes(content)
    with pytest.raises(ValueError) as raised:
        load_env_file()
    assert str(raised.value) == said.format(env_file)
    assert "A" not in os.environ


def test_a_link_to_a_missing_file_is_refused(env_file: Path) -> None:
    env_file.symlink_to("missing")
    with pytest.raises(ValueError, match=r"^cannot read \.env: No such file or directory$"):
        load_env_file()


def test_a_file_that_other_users_can_write_is_refused(env_file: Path) -> None:
    env_file.write_text("A=1\n")
    env_file.chmod(0o666)
    with pytest.raises(ValueError, match="other users can write in"):
        load_env_file()


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_a_file_of_another_user_is_refused(env_file: Path) -> None:
    env_file.write_text("A=1\n")
    shutil.chown(env_file, 12345)
    with pytest.raises(ValueError, match="belongs to 12345, who can run commands as root"):
        load_env_file()


def test_a_bad_file_prevents_the_start(processes: Processes, tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("TAILBOARD_TOKEN\n")
    for role in ("api.py", "worker.py"):
        ran = subprocess.run(
            [sys.executable, str(ROOT / role)],
            cwd=tmp_path,
            env=processes.env | {"FLASK_SKIP_DOTENV": ""},
            capture_output=True,
            text=True,
            timeout=60,
        )
        said = ran.stderr.splitlines()
        assert ran.returncode == 1 and len(said) == 1, ran
        assert said[0].endswith(f"{tmp_path}/.env, line 1: must be NAME=VALUE")
