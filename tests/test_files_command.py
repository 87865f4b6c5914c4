"""`tailboard files` on a folder and on a server, and the files of the Python client."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from command_site import USERS_TOKEN, Tailboard
from conftest import Site
from other_servers import Answer, Request, json_answer, serve

from api import create_app
from tailboard.cli.in_process import LOCAL_URL, InProcessAdapter
from tailboard.client import ApiError, Client
from tailboard.client_files import save_file

BINARY = bytes(range(256))


@pytest.fixture
def job_id(tailboard: Tailboard) -> str:
    """A job with a few files."""
    return make_job(tailboard)


def make_job(tailboard: Tailboard) -> str:
    job_id = tailboard.job_maker.ended()
    top = folder_of(tailboard, job_id)
    (top / "reports").mkdir(parents=True)
    write(top / "data.bin", BINARY)
    write(top / "reports" / "a.csv", b"a,b\n" * 300)
    write(top / "reports" / os.fsdecode(b"not\xff.txt"), b"bytes")
    write(top / "reports" / "\x1b[31m.txt", b"colour")
    (top / "link").symlink_to("/etc/passwd")
    return job_id


def folder_of(tailboard: Tailboard, job_id: str) -> Path:
    return tailboard.job_maker.log(job_id).parent / "files"


def write(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    os.utime(path, (1_700_000_000, 1_700_000_000))


def test_the_files_are_listed_with_size_local_time_and_path(
    tailboard: Tailboard, job_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    time.tzset()
    try:
        done = tailboard("files", job_id[-6:])
    finally:
        monkeypatch.undo()
        time.tzset()
    lines = done.stdout.splitlines()
    assert [line for line in lines if "link" not in line and "folder" not in line] == [
        "   256  2023-11-15 07:13  data.bin",
        "     6  2023-11-15 07:13  reports/\ufffd[31m.txt",
        " 1,200  2023-11-15 07:13  reports/a.csv",
        "     5  2023-11-15 07:13  reports/not\ufffd.txt",
    ]
    assert lines[1].startswith("  link  ") and lines[1].endswith("  link")
    assert lines[2].startswith("folder  ") and lines[2].endswith("  reports")
    listed = [json.loads(line) for line in tailboard("files", job_id, "--json").stdout.splitlines()]
    assert {each["path"]: each["size"] for each in listed}["reports/a.csv"] == 1_200
    none = tailboard.job_maker.ended()
    done = tailboard("files", none)
    assert (done.stdout, done.stderr) == ("", f"job {none} has no files\n")


def test_a_file_is_printed_as_it_is(tailboard: Tailboard, job_id: str) -> None:
    assert tailboard("files", job_id, "data.bin").stdout_bytes == BINARY
    name = os.fsdecode(b"reports/not\xff.txt")
    assert tailboard("files", job_id, name).stdout_bytes == b"bytes"


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["ID", "nothing"], "there is no file 'nothing' in the files of job ID"),
        (["ID", "reports"], "'reports' is a folder"),
        (["ID", "link"], "'link' is a symbolic link, which is not followed"),
        (["ID", "../job.json"], "'../job.json' is not the path of a file"),
        (["ID", "/etc/passwd"], "'/etc/passwd' is not the path of a file"),
        (["ID", "reports/"], "'reports/' is not the path of a file"),
        (["no-such-job"], "that starts or ends with 'no-such-job'"),
        (["ID", "nothing", "--get", "here"], "has no file at or below 'nothing'"),
        (["ID", "data.bin", "--json"], "--json lists all files"),
    ],
)
def test_a_mistake_is_explained_in_a_sentence(
    tailboard: Tailboard, job_id: str, words: list[str], says: str
) -> None:
    done = tailboard("files", *(word.replace("ID", job_id) for word in words))
    assert done.exit_code in (1, 2) and done.stdout == ""
    assert says.replace("ID", job_id) in done.stderr
    assert done.stderr.count("\n") == 1


def test_all_files_are_downloaded_with_their_names(
    tailboard: Tailboard, job_id: str, tmp_path: Path
) -> None:
    done = tailboard("files", job_id, "--get", str(tmp_path / "here"))
    assert done.stderr == "'link' was not downloaded: it is a link\n"
    assert done.exit_code == 1
    found = {path: path.read_bytes() for path in (tmp_path / "here").rglob("*") if path.is_file()}
    source = folder_of(tailboard, job_id)
    expected = [path for path in source.rglob("*") if path.is_file() and not path.is_symlink()]
    assert found == {
        tmp_path / "here" / path.relative_to(source): path.read_bytes() for path in expected
    }
    done = tailboard("files", job_id, "reports", "--get", str(tmp_path / "there"))
    assert (done.exit_code, done.stderr) == (0, "")
    assert sorted(os.listdir(tmp_path / "there")) == ["reports"]
    assert len(os.listdir(tmp_path / "there" / "reports")) == 3


def test_a_file_that_a_list_leaves_out_is_downloaded(tailboard: Tailboard, tmp_path: Path) -> None:
    job_id = tailboard.job_maker.ended()
    folder_of(tailboard, job_id).mkdir()
    names = ["x" * 250] * 20  # a path that is too long for a list
    fd = os.open(folder_of(tailboard, job_id), os.O_RDONLY)
    for name in names:
        os.mkdir(name, dir_fd=fd)
        below = os.open(name, os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = below
    with open(os.open("file", os.O_WRONLY | os.O_CREAT, dir_fd=fd), "wb"):
        os.close(fd)
    path, there = "/".join([*names, "file"]), str(tmp_path / "there")
    done = tailboard("files", job_id, path, "--get", there)
    assert done.stderr.startswith("the job has more files")
    assert (done.stdout, done.exit_code) == (f"{there}/{path}\n", 1)
    done = tailboard("files", job_id, "nothing", "--get", there)
    assert "there is no file 'nothing'" in done.stderr and done.exit_code == 1
    done = tailboard("files", job_id, "--get", there)
    assert done.stderr.startswith("the job has more files") and "has no files" in done.stderr


def test_files_are_saved_on_a_file_system_without_hard_links(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "link", refuse)
    folder = os.open(tmp_path, os.O_RDONLY)
    try:
        save_file(folder, "saved", [b"a", b"b"])
        with pytest.raises(FileExistsError):
            save_file(folder, "saved", [b"c"])
    finally:
        os.close(folder)
    assert os.listdir(tmp_path) == ["saved"] and (tmp_path / "saved").read_bytes() == b"ab"


def test_existing_files_and_links_are_not_replaced_or_followed(
    tailboard: Tailboard, job_id: str, tmp_path: Path
) -> None:
    here, outside = tmp_path / "here", tmp_path / "outside"
    here.mkdir()
    outside.mkdir()
    (here / "data.bin").write_bytes(b"mine")
    (here / "reports").symlink_to(outside)
    done = tailboard("files", job_id, "--get", str(here))
    assert done.exit_code == 1
    assert f"{here}/data.bin exists already and was not replaced\n" in done.stderr
    assert f"{here}/reports/a.csv cannot be written: " in done.stderr
    assert (here / "data.bin").read_bytes() == b"mine"
    assert os.listdir(outside) == [] and sorted(os.listdir(here)) == ["data.bin", "reports"]


def listing_of(*urls: object) -> dict[str, Any]:
    file = {"path": "x", "kind": "file", "size": 1, "modified": "2026-11-30T00:00:00.000Z"}
    return {"files": [file | {"url": url} for url in urls], "complete": True}


JOB = "20261130-000000-abcdefgh"


@pytest.mark.parametrize(
    "path", ["../x", "%2e%2e/x", "/tmp/x", "%2Ftmp%2Fx", "a/../../x", "..%2Fx", "a//x", ".", "%00"]
)
def test_a_server_cannot_write_outside_of_the_folder(
    on_folder: Tailboard, tmp_path: Path, path: str
) -> None:
    def answer(request: Request) -> Answer:
        if request.path.endswith("/files"):
            return json_answer(listing_of(f"/jobs/{JOB}/files/{path}"))
        return json_answer({"id": JOB, "status": "succeeded"})

    here = tmp_path / "here"
    with serve(answer) as url:
        done = on_folder("files", JOB, "--get", str(here), TAILBOARD_API=url, TAILBOARD_STORAGE="")
    assert done.exit_code == 1 and "is not the path of a file" in done.stderr
    assert os.listdir(here) == [] and not (tmp_path / "x").exists()


@pytest.mark.parametrize("path", ["@evil.example/x", "/jobs/other/files/x", "//evil/x", 1])
def test_the_token_goes_to_no_other_place_that_a_server_names(
    on_folder: Tailboard, tmp_path: Path, path: object
) -> None:
    def answer(request: Request) -> Answer:
        if request.path.endswith("/files"):
            return json_answer(listing_of(path))
        return json_answer({"id": JOB, "status": "succeeded"})

    with serve(answer) as url:
        done = on_folder(
            *("files", JOB, "--get", str(tmp_path / "here")),
            TAILBOARD_API=url,
            TAILBOARD_STORAGE="",
        )
    assert done.stderr == "Error: the server sent a list of files that is not Tailboard's\n"


# --- The Python client ----------------------------------------------------------------------------


@pytest.fixture
def client(command_site: Site) -> Iterator[Client]:
    with Client(command_site.url, USERS_TOKEN, patience=0) as client:
        yield client


def test_the_client_lists_reads_and_saves_files(
    on_server: Tailboard, client: Client, tmp_path: Path
) -> None:
    job_id = make_job(on_server)
    paths = [each["path"] for each in client.files(job_id)["files"]]
    assert paths[0] == "data.bin" and len(paths) == 6
    assert b"".join(client.read_file(job_id, "data.bin")) == BINARY
    assert b"".join(client.read_file(job_id, b"reports/not\xff.txt")) == b"bytes"
    client.download_file(job_id, "data.bin", str(tmp_path / "copy"))
    assert (tmp_path / "copy").read_bytes() == BINARY
    with pytest.raises(FileExistsError):
        client.download_file(job_id, "reports/a.csv", str(tmp_path / "copy"))
    assert (tmp_path / "copy").read_bytes() == BINARY
    with pytest.raises(ApiError, match="there is no file 'x'") as raised:
        client.download_file(job_id, "x", str(tmp_path / "x"))
    assert raised.value.status == 404
    assert os.listdir(tmp_path).count("copy") == 1 and "x" not in os.listdir(tmp_path)


@pytest.fixture
def in_process(on_folder: Tailboard) -> Iterator[Client]:
    """The client of the commands on a folder."""
    session = requests.Session()
    app = create_app({"STORAGE": on_folder.folder})
    session.mount(LOCAL_URL, InProcessAdapter(app, "anna"))
    with Client(LOCAL_URL, "", session=session, patience=0) as client:
        yield client


@pytest.mark.parametrize("where", ["folder", "server"])
def test_a_file_that_the_job_truncates_meanwhile_is_never_saved_in_part(
    request: pytest.FixtureRequest, tmp_path: Path, where: str
) -> None:
    tailboard = request.getfixturevalue(f"on_{where}")
    client = request.getfixturevalue("in_process" if where == "folder" else "client")
    job_id = make_job(tailboard)
    source = folder_of(tailboard, job_id) / "data.bin"
    os.truncate(source, 256 << 20)

    def chunks() -> Iterator[bytes]:
        for chunk in client.read_file(job_id, "data.bin"):
            os.truncate(source, 1)
            yield chunk

    here = tmp_path / "here"
    here.mkdir()
    folder = os.open(here, os.O_RDONLY)
    with pytest.raises(ApiError, match="was not sent to its end"):
        save_file(folder, "saved", chunks())
    os.close(folder)
    assert os.listdir(here) == []
