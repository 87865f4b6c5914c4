"""The files of a job over HTTP: their list, each of them, and all of them in an archive.

Jobs are hostile: each name and each kind of entry that could lead out of the folder, or stop the
API, has its expected response here."""

from __future__ import annotations

import io
import json
import os
import re
import socket
import stat
import subprocess
import threading
import zipfile
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import chdir
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote, unquote_to_bytes

import psutil
import pytest
import requests
from conftest import JobMaker, Site
from flask.testing import FlaskClient
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from machines import RedisMachine
from other_servers import Answer as RawAnswer
from other_servers import Request, serve
from playwright.sync_api import BrowserContext, expect
from web import RFC3339, UNKNOWN, is_problem
from werkzeug.exceptions import Conflict

from api import create_app
from tailboard.errors import NotAFile
from tailboard.folder.file_reading import open_file_in
from tailboard.job import Job
from tailboard.job_files import DEVICE_RE, UNSAFE_RE, FileEntry, FileKind, OpenFile
from tailboard.journal import Outcome
from tailboard.status import Status
from tailboard.web import markdown
from tailboard.web.file_archive import safe_path, unique_names
from tailboard.web.files import render
from tailboard.web.problems import DownloadBroken

SECRET = b"root:x:0:0"  # the beginning of /etc/passwd
SCRIPT = b"<script>parent.location = 'http://127.0.0.1:9'</script>"
SVG = b'<svg xmlns="http://www.w3.org/2000/svg" onload="alert(1)"/>'
LONG = b"n" * 255
NONE = {"files": [], "complete": True, "elsewhere": None}
POLICY = {
    "sandbox",
    "default-src 'none'",
    "style-src 'unsafe-inline'",
    "img-src data:",
    "font-src data:",
    "media-src data:",
    "form-action 'none'",
    "base-uri 'none'",
    "frame-ancestors 'none'",
}


class Answer(NamedTuple):
    """A response to a request that was sent byte by byte."""

    status: int
    headers: dict[str, str]
    body: bytes


class Files:
    """A job with files of hostile names and kinds, and a served API."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.id = site.job_maker.ended(name="files")
        self.top = files_of(site.job_maker, self.id)
        self.top.mkdir()

    def write(self, name: bytes, content: bytes) -> None:
        path = os.path.join(os.fsencode(self.top), name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as file:
            file.write(content)

    def ask(
        self, path: bytes, *headers: str, method: str = "GET", sub: bytes = b"/files/"
    ) -> Answer:
        """The response to a request for this path, which is sent unchanged."""
        head = f"{method} /jobs/{self.id}".encode() + sub + path + b" HTTP/1.1\r\n"
        lines = ["Host: 127.0.0.1", "Connection: close", *headers, "", ""]
        found = self.site.raw(head + "\r\n".join(lines).encode())
        top, _, body = found.partition(b"\r\n\r\n")
        status, *fields = top.decode("latin-1").split("\r\n")
        pairs = (field.partition(": ")[::2] for field in fields)
        return Answer(int(status.split()[1]), {k.lower(): v for k, v in pairs}, body)

    def get(self, path: str = "", **options: Any) -> requests.Response:
        return self.site.get(f"/jobs/{self.id}/files{path}", **options)

    def list(self) -> dict[str, dict[str, Any]]:
        return {each["path"]: each for each in self.get().json()["files"]}


def files_of(maker: JobMaker, job_id: str) -> Path:
    return maker.log(job_id).parent / "files"


PRESENT = {  # names that a job can give to a file -> the type of the response
    b"report.html": "text/html; charset=utf-8",
    b"drawing.svg": "image/svg+xml; charset=utf-8",
    b"PLOT.PNG": "image/png",
    b"data.csv": "text/csv; charset=utf-8",
    b"result.json": "application/json; charset=utf-8",
    b"notes.md": "text/markdown; charset=utf-8",
    b"code.js": "text/plain; charset=utf-8",
    b"style.css": "text/plain; charset=utf-8",
    b"page.xhtml": "application/octet-stream",
    b"paper.pdf": "application/pdf",
    b"no ending": "application/octet-stream",
    b"new\nline.txt": "text/plain; charset=utf-8",
    b"return\r\nSet-Cookie: a=b.txt": "text/plain; charset=utf-8",
    b'quote".txt': "text/plain; charset=utf-8",
    b"per%2Fcent%.txt": "text/plain; charset=utf-8",
    b"question?download=1.txt": "text/plain; charset=utf-8",
    b"hash#.txt": "text/plain; charset=utf-8",
    b"semi;colon=1.txt": "text/plain; charset=utf-8",
    b"back\\slash.txt": "text/plain; charset=utf-8",
    b"not\xffutf-8.txt": "text/plain; charset=utf-8",
    b"cut\xe2\x82.txt": "text/plain; charset=utf-8",
    "gr\u00fc\u00df \u4f60\u597d.txt".encode(): "text/plain; charset=utf-8",
    b"rtl\xe2\x80\xaetxt.exe": "application/octet-stream",
    b"\x01\x1b[31m\x7f.txt": "text/plain; charset=utf-8",
    b" ": "application/octet-stream",
    b"...": "application/octet-stream",
    b".hidden.txt": "text/plain; charset=utf-8",
    b"~": "application/octet-stream",
    b"CON.txt": "text/plain; charset=utf-8",
    b"-rf": "application/octet-stream",
    b"files.zip": "application/zip",
    b"logs": "application/octet-stream",
    b"a/files/b.txt": "text/plain; charset=utf-8",
    LONG: "application/octet-stream",
    b"/".join([b"d" * 200] * 10) + b"/deep.txt": "text/plain; charset=utf-8",
}
ABSENT = {  # paths -> (the status, a part of the sentence)
    b"": (404, "there is no file ''"),
    b"/": (404, "there is no file '/'"),
    b"..": (404, "there is no file '..'"),
    b"../output.log": (404, "there is no file '../output.log'"),
    b"a/../../job.json": (404, "there is no file"),
    b"%2e%2e/job.json": (404, "there is no file '../job.json'"),
    b"..%2fjob.json": (404, "there is no file '../job.json'"),
    b"%252e%252e%252fjob.json": (404, "there is no file '%2e%2e%2fjob.json'"),
    b"..%5cjob.json": (404, "there is no file '..\\\\job.json'"),
    b"%c0%ae%c0%ae/job.json": (404, "there is no file"),
    b"/etc/passwd": (404, "there is no file '/etc/passwd'"),
    b"%2Fetc%2Fpasswd": (404, "there is no file '/etc/passwd'"),
    b"//etc/passwd": (404, "there is no file '//etc/passwd'"),
    b"./report.html": (404, "there is no file './report.html'"),
    b"a//files/b.txt": (404, "there is no file 'a//files/b.txt'"),
    b"report.html/": (404, "there is no file 'report.html/'"),
    b"report.html/x": (404, "there is no file 'report.html/x'"),
    b"report.html%00.txt": (404, "there is no file 'report.html\\x00.txt'"),
    b"%00": (404, "there is no file '\\x00'"),
    b"%0a": (404, "there is no file '\\n'"),
    b"n" * 256: (404, "there is no file 'nnn"),
    b"x/" * 20_000 + b"y": (404, "there is no file 'x/x/"),
    b"%ff": (404, "there is no file '\ufffd'"),
    b"%": (404, "there is no file '%'"),
    b"%zz": (404, "there is no file '%zz'"),
    b"a": (409, "'a' is a folder"),
    b"passwd": (409, "'passwd' is a symbolic link, which is not followed"),
    b"broken": (409, "'broken' is a symbolic link"),
    b"loop": (409, "'loop' is a symbolic link"),
    b"out/passwd": (404, "there is no file 'out/passwd'"),
    b"inside/b.txt": (404, "there is no file"),
    b"fifo": (409, "'fifo' is a FIFO, which is not opened"),
    b"socket": (409, "'socket' is a socket, which is not opened"),
}


@pytest.fixture(scope="module")
def files(site: Site) -> Files:
    made = Files(site)
    for name in PRESENT:
        made.write(name, b"content of " + name)
    made.write(b"report.html", SCRIPT)
    made.write(b"drawing.svg", SVG)
    for link, target in (
        ("passwd", "/etc/passwd"),
        ("broken", "nothing"),
        ("loop", "loop"),
        ("out", "/etc"),
        ("inside", "a/files"),
    ):
        (made.top / link).symlink_to(target)
    os.mkfifo(made.top / "fifo")
    with socket.socket(socket.AF_UNIX) as listener, chdir(made.top):
        listener.bind("socket")  # a longer path cannot be bound
    return made


def test_each_file_is_read_at_the_url_of_the_list(files: Files) -> None:
    listed = {each["url"]: each for each in files.list().values()}
    for name, kind in PRESENT.items():
        entry = listed[f"/jobs/{files.id}/files/{quote(name)}"]
        answer = files.ask(entry["url"].partition("/files/")[2].encode())
        content = {b"report.html": SCRIPT, b"drawing.svg": SVG}.get(name, b"content of " + name)
        assert (answer.status, answer.body) == (200, content), name
        assert answer.headers["content-type"] == kind, name
        assert entry["size"] == len(content) and entry["kind"] == "file"
        is_saved = answer.headers["content-disposition"].startswith("attachment; ")
        assert is_saved == (kind.startswith("application/") and "json" not in kind), name
        check_headers(answer)


def check_headers(answer: Answer) -> None:
    """What keeps a file from acting with the rights of a visitor who looks at it."""
    assert set(answer.headers["content-security-policy"].split("; ")) == POLICY
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert answer.headers["x-frame-options"] == "DENY"
    assert answer.headers["cross-origin-resource-policy"] == "same-origin"
    assert "set-cookie" not in answer.headers


def test_no_path_leads_out_of_the_folder_or_to_an_error(files: Files) -> None:
    for path, (status, says) in ABSENT.items():
        answer = files.ask(path)
        assert answer.status == status, (path[:80], answer)
        assert says in json.loads(answer.body)["detail"], path[:80]
        assert SECRET not in answer.body
        assert "location" not in answer.headers


def test_the_list_says_what_each_entry_is(files: Files) -> None:
    answer = files.get()
    listed = files.list()
    assert answer.json()["complete"] is True
    raw = [unquote_to_bytes(each["url"]) for each in listed.values()]
    assert raw == sorted(raw)
    kinds = {each["path"]: each["kind"] for each in listed.values() if each["kind"] != "file"}
    folder = "/".join(["d" * 200] * 10)
    above = {folder[: 200 + 201 * level]: "folder" for level in range(10)}
    links = dict.fromkeys(("passwd", "broken", "loop", "out", "inside"), "link")
    ends = {"a": "folder", "a/files": "folder", "fifo": "fifo", "socket": "socket"}
    assert kinds == above | links | ends
    assert {each["size"] for each in listed.values() if each["kind"] != "file"} == {None}
    assert listed["not\ufffdutf-8.txt"]["url"].endswith("/files/not%FFutf-8.txt")
    assert all(RFC3339.fullmatch(each["modified"]) for each in listed.values())
    same = files.get(headers={"If-None-Match": answer.headers["ETag"]})
    assert (same.status_code, same.content) == (304, b"")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make devices")
def test_a_device_is_listed_and_not_opened(folder_job: FolderJob, client: FlaskClient) -> None:
    os.mknod(folder_job.top / "zero", stat.S_IFCHR | 0o666, os.makedev(1, 5))
    [entry] = client.get(folder_job.url).json["files"]
    assert (entry["path"], entry["kind"], entry["size"]) == ("zero", "device", None)
    is_problem(client.get(f"{folder_job.url}/zero"), 409, "'zero' is a device, which is not opened")


def test_a_job_without_files(site: Site) -> None:
    url = f"/jobs/{site.job_maker.ended()}/files"
    assert site.get(url).json() == NONE
    is_problem(site.get(f"{url}/x"), 404, "there is no file 'x'")
    assert zipped(site.get(f"{url}.zip").content).namelist() == []


def test_requests_for_files_that_are_wrong(site: Site, files: Files) -> None:
    for end in ("", "/x", ".zip"):
        is_problem(site.get(f"/jobs/{UNKNOWN}/files{end}"), 404, UNKNOWN)
        is_problem(files.get(f"{end}?page=1"), 400, "unknown field 'page'", "ticket")
    is_problem(files.get("/notes.md?download=2"), 400, "download must be 0 or 1")
    is_problem(site.post(f"/jobs/{files.id}/files/notes.md"), 405, "allowed: GET, HEAD, OPTIONS")


class FolderJob(NamedTuple):
    """A job with an empty folder for files, in the folder of `client`."""

    folder: str
    top: Path
    url: str


@pytest.fixture
def folder_job(job_maker: JobMaker) -> Iterator[FolderJob]:
    job_id = job_maker.ended()
    top = files_of(job_maker, job_id)
    top.mkdir()
    yield FolderJob(str(top.parent), top, f"/jobs/{job_id}/files")
    subprocess.run(["rm", "-rf", top], check=True)  # pytest cannot remove trees of any depth


@pytest.mark.parametrize("kind", ["link", "file", "fifo"])
def test_what_replaces_the_folder_itself_is_not_followed(
    folder_job: FolderJob, client: FlaskClient, kind: str
) -> None:
    folder_job.top.rmdir()
    if kind == "link":
        folder_job.top.symlink_to("/etc")
    elif kind == "file":
        folder_job.top.write_text("files")
    else:
        os.mkfifo(folder_job.top)
    assert client.get(folder_job.url).json == NONE
    assert client.get(f"{folder_job.url}/passwd").status_code == 404


def test_a_file_that_is_swapped_for_a_link_after_the_list(
    folder_job: FolderJob, client: FlaskClient
) -> None:
    (folder_job.top / "a").mkdir()
    for name in ("passwd", "a/passwd"):
        (folder_job.top / name).write_text("harmless")
    urls = [each["url"] for each in client.get(folder_job.url).json["files"]]
    for name in ("passwd", "a/passwd"):
        (folder_job.top / name).unlink()
    (folder_job.top / "passwd").symlink_to("/etc/passwd")
    (folder_job.top / "a").rmdir()
    (folder_job.top / "a").symlink_to("/etc")
    assert [client.get(url).status_code for url in urls] == [409, 404, 409]


def test_no_swap_during_a_request_leads_out_of_the_folder(folder_job: FolderJob) -> None:
    """Another thread keeps exchanging a file and a folder for links."""
    inside, outside = folder_job.top / "x", folder_job.top / "y"
    inside.mkdir()
    (inside / "passwd").write_text("harmless")
    outside.symlink_to("/etc")
    (folder_job.top / "f").write_text("harmless")
    (folder_job.top / "l").symlink_to("/etc/passwd")
    is_over = threading.Event()

    def exchange() -> None:
        third = folder_job.top / "z"
        while not is_over.is_set():
            for one, other in ((inside, outside), (folder_job.top / "f", folder_job.top / "l")):
                os.rename(one, third)
                os.rename(other, one)
                os.rename(third, other)

    seen, outcomes = Counter[str](), {"file", "FileNotFoundError", "NotAFile"}
    with ThreadPoolExecutor(1) as pool:
        swapping = pool.submit(exchange)
        try:
            for path in (b"x/passwd", b"f") * 50_000:
                if seen.total() > 2_000 and seen.keys() == outcomes:
                    break
                try:
                    with open_file_in(folder_job.folder, path) as file:
                        assert file.read(0, 8) == b"harmless"
                        seen["file"] += 1
                except (FileNotFoundError, NotAFile) as error:
                    seen[type(error).__name__] += 1
        finally:
            is_over.set()
        swapping.result()
    assert seen.keys() == outcomes


PARTS = ["", ".", "..", "a", "out", "etc", "passwd", "\0", "x" * 300, "%2e%2e", "\udcff", "\n"]


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(parts=st.lists(st.sampled_from(PARTS) | st.text(max_size=4), max_size=8))
@example(parts=["out", "passwd"])
@example(parts=["a", "..", "..", "journal"])
def test_no_path_is_read_outside_of_the_folder(files: Files, parts: list[str]) -> None:
    path = "/".join(parts).encode(errors="surrogateescape")
    try:
        with open_file_in(str(files.top.parent), path) as file:
            found = os.path.realpath(os.path.join(os.fsencode(files.top), path))
            assert found.startswith(os.fsencode(files.top) + b"/")
            assert os.stat(found).st_size == file.size
    except (FileNotFoundError, NotAFile):
        pass


def test_a_list_has_10_000_entries_at_most_and_says_so(
    folder_job: FolderJob, client: FlaskClient
) -> None:
    """The entries nearest to the top are listed, and so is what is in the archive."""
    (folder_job.top / "many").mkdir()
    os.mkfifo(folder_job.top / "many" / "fifo")
    for number in range(9_999):  # hard links take the least time
        os.link(folder_job.top / "many" / "fifo", folder_job.top / "many" / f"{number}")
    (folder_job.top / "near").write_text("near")
    listing = client.get(folder_job.url).json
    assert (len(listing["files"]), listing["complete"]) == (10_000, False)
    assert {"many", "near"} < {each["path"] for each in listing["files"]}
    archive = zipped(client.get(f"{folder_job.url}.zip").data)
    assert archive.namelist() == ["near"]
    assert b"only the first 10,000" in archive.comment


def test_a_tree_of_3_000_levels_is_listed_in_part_and_read_to_its_end(
    folder_job: FolderJob, client: FlaskClient
) -> None:
    fd = os.open(folder_job.top, os.O_RDONLY)
    for _ in range(3_000):
        os.mkdir("d", dir_fd=fd)
        below = os.open("d", os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = below
    os.close(os.open("end", os.O_WRONLY | os.O_CREAT, dir_fd=fd))
    os.close(fd)
    listing = client.get(folder_job.url).json
    assert listing["complete"] is False
    assert listing["files"][-1]["path"].count("/") > 1_000
    assert client.get(f"{folder_job.url}/{'d/' * 3_000}end").status_code == 200
    is_problem(client.get(f"{folder_job.url}/{'d/' * 3_001}end"), 404)


def test_a_list_leaves_out_what_no_path_can_name_and_what_takes_too_long(
    folder_job: FolderJob, client: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    fd = os.open(folder_job.top, os.O_RDONLY)
    for _ in range(17):  # 17 * 251 bytes are too many for a path
        os.mkdir("d" * 250, dir_fd=fd)
        below = os.open("d" * 250, os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = below
    os.close(fd)
    listing = client.get(folder_job.url).json
    assert (len(listing["files"]), listing["complete"]) == (16, False)
    monkeypatch.setattr("tailboard.folder.file_reading.LISTING_TIME", -1.0)
    listing = client.get(folder_job.url).json
    assert (listing["files"], listing["complete"]) == ([], False)


def test_files_that_cannot_be_read_are_listed(folder_job: FolderJob, client: FlaskClient) -> None:
    """Everything can be read by root: then this test only looks at the list."""
    (folder_job.top / "closed").mkdir()
    (folder_job.top / "closed" / "file").write_text("x")
    (folder_job.top / "secret").write_text("x")
    for name in ("closed", "secret"):
        os.chmod(folder_job.top / name, 0)
    listed = [each["path"] for each in client.get(folder_job.url).json["files"]]
    if os.geteuid() == 0:
        assert listed == ["closed", "closed/file", "secret"]
    else:
        assert listed == ["closed", "secret"]
        is_problem(client.get(f"{folder_job.url}/secret"), 409, "cannot be read: permission denied")
        is_problem(client.get(f"{folder_job.url}/closed/file"), 404)
    os.chmod(folder_job.top / "closed", 0o700)


# --- Parts of a file ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("header", "status", "body", "part"),
    [
        ("bytes=0-3", 206, b"0123", "bytes 0-3/10"),
        ("bytes=7-", 206, b"789", "bytes 7-9/10"),
        ("bytes=-2", 206, b"89", "bytes 8-9/10"),
        ("bytes=-99", 206, b"0123456789", "bytes 0-9/10"),
        ("bytes=8-99", 206, b"89", "bytes 8-9/10"),
        ("bytes=0-0,5-6", 206, b"0", "bytes 0-0/10"),
        ("bytes=10-", 416, None, "bytes */10"),
        ("bytes=99-100", 416, None, "bytes */10"),
        ("bytes=5-2", 200, b"0123456789", None),
        ("lines=1-2", 200, b"0123456789", None),
        ("bytes=x", 200, b"0123456789", None),
    ],
)
def test_a_range_of_a_file(
    files: Files, header: str, status: int, body: bytes | None, part: str | None
) -> None:
    files.write(b"digits.txt", b"0123456789")
    answer = files.get("/digits.txt", headers={"Range": header})
    assert (answer.status_code, answer.headers.get("Content-Range")) == (status, part)
    if body is None:
        is_problem(answer, 416, "Range must begin before byte 10, the end of the file")
        assert "X-Log-Size" not in answer.headers
    else:
        assert answer.content == body
        assert answer.headers["Accept-Ranges"] == "bytes"
        assert answer.headers["Content-Length"] == str(len(body))


def test_the_etag_changes_with_the_content_even_if_size_and_time_do_not(files: Files) -> None:
    files.write(b"etag.txt", b"one")
    os.utime(files.top / "etag.txt", (1, 1))
    first = files.get("/etag.txt")
    etag = {"ETag": first.headers["ETag"]}
    assert first.headers["Cache-Control"] == "no-cache"
    known = files.get("/etag.txt", headers={"If-None-Match": etag["ETag"]})
    weak = files.get("/etag.txt", headers={"If-None-Match": f"W/{etag['ETag']}"})
    assert (known.status_code, weak.status_code) == (304, 304)
    assert known.content == b"" and known.headers["ETag"] == etag["ETag"]
    part = {"Range": "bytes=1-", "If-Range": etag["ETag"]}
    assert files.get("/etag.txt", headers=part).content == b"ne"
    with open(files.top / "etag.txt", "r+b") as file:
        file.write(b"two")
    os.utime(files.top / "etag.txt", (1, 1))
    assert files.get("/etag.txt", headers={"If-None-Match": etag["ETag"]}).content == b"two"
    assert files.get("/etag.txt", headers=part).content == b"two"


def test_the_head_of_a_file_has_its_size_and_type(files: Files) -> None:
    answer = files.site.ask("HEAD", f"/jobs/{files.id}/files/report.html")
    assert (answer.status_code, answer.content) == (200, b"")
    assert answer.headers["Content-Length"] == str(len(SCRIPT))
    assert answer.headers["Content-Type"] == "text/html; charset=utf-8"


def test_an_empty_file_has_no_ranges(files: Files) -> None:
    files.write(b"empty.txt", b"")
    assert files.get("/empty.txt").content == b""
    assert files.get("/empty.txt", headers={"Range": "bytes=0-"}).status_code == 416


def test_a_file_of_2_gib_is_sent_in_bounded_memory(files: Files) -> None:
    files.write(b"sparse.bin", b"")
    os.truncate(files.top / "sparse.bin", 2 << 30)
    try:
        end = files.get("/sparse.bin", headers={"Range": "bytes=2147483640-"})
        assert end.content == bytes(8)
        with files.get("/sparse.bin", stream=True) as answer:
            assert answer.headers["Content-Length"] == str(2 << 30)
            before = peak_memory(files.site)
            assert sum(len(answer.raw.read(1 << 20)) for _ in range(64)) == 64 << 20
        assert peak_memory(files.site) - before < 16 << 20
    finally:
        (files.top / "sparse.bin").unlink()


def peak_memory(site: Site) -> int:
    """The most memory of the API's process, in bytes."""
    parent = psutil.Process(site.processes.started[0].pid)
    [server] = [each for each in parent.children() if each.name() != "resource_tracker"]
    status = Path(f"/proc/{server.pid}/status").read_text()
    return int(re.search(r"VmHWM:\s*(\d+)", status)[1]) << 10


def test_the_connection_closes_if_the_job_truncates_a_file_that_is_sent(files: Files) -> None:
    """Other bytes must not replace the missing ones, and the client must notice."""
    files.write(b"shrinks.bin", b"")
    os.truncate(files.top / "shrinks.bin", 512 << 20)
    with files.get("/shrinks.bin", stream=True) as answer:
        assert answer.raw.read(1 << 20) == bytes(1 << 20)
        os.truncate(files.top / "shrinks.bin", 1 << 20)
        with pytest.raises(requests.exceptions.ChunkedEncodingError):
            for _ in answer.iter_content(1 << 20):
                pass
    (files.top / "shrinks.bin").unlink()


# --- Saving a file --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        (b"notes.md?download=1", "attachment; filename=\"notes.md\"; filename*=UTF-8''notes.md"),
        (b"notes.md", "inline; filename=\"notes.md\"; filename*=UTF-8''notes.md"),
        (b"a/files/b.txt", "inline; filename=\"b.txt\"; filename*=UTF-8''b.txt"),
        (b"quote%22.txt", "inline; filename=\"quote_.txt\"; filename*=UTF-8''quote_.txt"),
        (
            b"back%5Cslash.txt",
            "inline; filename=\"back_slash.txt\"; filename*=UTF-8''back_slash.txt",
        ),
        (
            b"return%0D%0ASet-Cookie%3A%20a%3Db.txt",
            'inline; filename="return__Set-Cookie_ a=b.txt"; '
            "filename*=UTF-8''return__Set-Cookie_%20a%3Db.txt",
        ),
        (b"not%FFutf-8.txt", "inline; filename=\"not_utf-8.txt\"; filename*=UTF-8''not_utf-8.txt"),
        (
            b"gr%C3%BC%C3%9F%20%E4%BD%A0%E5%A5%BD.txt",
            'inline; filename="gr__ __.txt"; '
            "filename*=UTF-8''gr%C3%BC%C3%9F%20%E4%BD%A0%E5%A5%BD.txt",
        ),
        (
            b"rtl%E2%80%AEtxt.exe",
            "attachment; filename=\"rtl_txt.exe\"; filename*=UTF-8''rtl_txt.exe",
        ),
        (
            b"per%252Fcent%25.txt",
            "inline; filename=\"per_2Fcent_.txt\"; filename*=UTF-8''per%252Fcent%25.txt",
        ),
        (b"...", "attachment; filename=\"___\"; filename*=UTF-8''___"),
        (b"CON.txt", "inline; filename=\"_ON.txt\"; filename*=UTF-8''_ON.txt"),
    ],
)
def test_the_name_for_saving_a_file_is_harmless(files: Files, path: bytes, expected: str) -> None:
    assert files.ask(path).headers["content-disposition"] == expected


# --- The archive ----------------------------------------------------------------------------------


def zipped(content: bytes) -> zipfile.ZipFile:
    return zipfile.ZipFile(io.BytesIO(content))


def test_the_archive_has_all_files_under_names_that_every_system_accepts(
    files: Files, tmp_path: Path
) -> None:
    answer = files.get(".zip")
    assert answer.headers["Content-Type"] == "application/zip"
    expected = f'attachment; filename="files-{files.id}-files.zip"'
    assert answer.headers["Content-Disposition"] == expected
    archive = zipped(answer.content)
    assert archive.testzip() is None and archive.comment == b""
    changed = {
        "not_utf-8.txt": b"not\xffutf-8.txt",
        "back_slash.txt": b"back\\slash.txt",
        "return__Set-Cookie_ a=b.txt": b"return\r\nSet-Cookie: a=b.txt",
        "_ON.txt": b"CON.txt",
        "a/files/b.txt": b"a/files/b.txt",
    }
    for name, original in changed.items():
        assert archive.read(name) == b"content of " + original
    assert not any(
        UNSAFE_RE.search(part) for name in archive.namelist() for part in name.split("/")
    )
    assert not {"passwd", "fifo", "out/passwd", "inside/b.txt"} & set(archive.namelist())
    archive.extractall(tmp_path)
    kept = [each for each in files.list().values() if each["kind"] == "file"]
    assert len([each for each in tmp_path.rglob("*") if each.is_file()]) == len(kept)


NAMES = st.text("aA.: \\\n\udcff\u202e\u4f60", min_size=1, max_size=5) | st.sampled_from(
    ["CON", "2_a"]
)


@settings(max_examples=80, deadline=None)
@given(names=st.sets(st.lists(NAMES, min_size=1, max_size=3).map("/".join), max_size=12))
def test_names_in_an_archive_are_unique_and_harmless(names: set[str]) -> None:
    paths = {name.encode(errors="surrogateescape") for name in names}
    folders = {path[:at] for path in paths for at, byte in enumerate(path) if byte == ord("/")}
    entries = [FileEntry(path, FileKind.FILE, 0, 0) for path in sorted(paths - folders)]
    found = unique_names(entries)
    assert len(set(found)) == len(found)
    for name, entry in zip(found, entries, strict=True):
        parts = name.split("/")
        assert len(parts) == entry.path.count(b"/") + 1
        assert all(part and part not in (".", "..") and len(part) < 256 for part in parts)
        assert not any(UNSAFE_RE.search(part) or DEVICE_RE.match(part) for part in parts)
        if safe_path(entry.path) == entry.path:
            assert name.encode() == entry.path
    above = {name[:at] for name in found for at, letter in enumerate(name) if letter == "/"}
    assert not above & set(found)


def test_long_names_that_become_the_same_stay_short_and_differ() -> None:
    names = [b"n" * 254 + end for end in (b"\xfe", b"\xff")]
    found = unique_names([FileEntry(name, FileKind.FILE, 0, 0) for name in names])
    assert found == ["n" * 254 + "_", "2_" + "n" * 253]


def test_an_archive_of_files_that_change_meanwhile_is_valid(
    folder_job: FolderJob, client: FlaskClient
) -> None:
    for name in ("1-shrinks", "2-vanishes", "3-grows", "4-is-swapped"):
        (folder_job.top / name).write_bytes(os.urandom(1 << 20))
    chunks = iter(client.get(f"{folder_job.url}.zip").response)
    content = next(chunks) + next(chunks)
    os.truncate(folder_job.top / "1-shrinks", 200_000)
    (folder_job.top / "2-vanishes").unlink()
    (folder_job.top / "4-is-swapped").unlink()
    (folder_job.top / "4-is-swapped").symlink_to("/etc/passwd")
    for chunk in chunks:
        content += chunk
        with open(folder_job.top / "3-grows", "ab") as file:
            file.write(bytes(100_000))
    archive = zipped(content)
    assert archive.testzip() is None
    sizes = {each.filename: each.file_size for each in archive.infolist()}
    assert sizes["1-shrinks"] == 200_000 and sizes["3-grows"] >= 1 << 20
    assert len(sizes) == 2 and archive.comment == b"Files that could not be read: 2."


def test_an_archive_ends_early_if_the_job_is_deleted(
    folder_job: FolderJob, client: FlaskClient
) -> None:
    for name in ("1", "2"):
        (folder_job.top / name).write_bytes(b"x")
    chunks = iter(client.get(f"{folder_job.url}.zip").response)
    next(chunks)
    assert client.delete(folder_job.url.removesuffix("/files")).status_code == 204
    with pytest.raises(DownloadBroken, match="was deleted"):
        list(chunks)


def test_an_archive_holds_a_followers_place_until_it_is_sent(
    folder_job: FolderJob, folder: Path
) -> None:
    client = create_app({"STORAGE": folder, "FOLLOWERS": 1}).test_client()
    (folder_job.top / "file").write_bytes(bytes(1 << 20))
    first = client.get(f"{folder_job.url}.zip")
    is_problem(client.get(f"{folder_job.url}.zip"), 503, "too many clients are following logs")
    first.close()
    client.head(f"{folder_job.url}.zip").close()
    assert client.get(f"{folder_job.url}.zip").status_code == 200


# --- Markdown -------------------------------------------------------------------------------------


def test_markdown_becomes_a_page_without_html_and_scripts_of_the_job(files: Files) -> None:
    text = (
        "# Head\n\n<script>x</script> [a](javascript:b) <b onclick=c>\n\n|a|b|\n|-|-|\n|1|~~2~~|\n"
    )
    files.write(b"page.md", text.encode() + b"\xff")
    answer = files.ask(b"page.md?render=1")
    page = answer.body.decode()
    assert (answer.status, answer.headers["content-type"]) == (200, "text/html; charset=utf-8")
    check_headers(answer)
    assert "<h1>Head</h1>" in page and "<td><s>2</s></td>" in page and "\ufffd" in page
    assert "&lt;script&gt;" in page and "[a](javascript:b)" in page
    assert not re.search(r"<script|<b |href|onclick=c>", page)
    assert "content-disposition" not in answer.headers


def test_markdown_that_cannot_be_rendered(
    folder_job: FolderJob, client: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(markdown, "RENDER_TIME", 0.5)
    (folder_job.top / "slow.md").write_bytes(b"[" * 500_000)
    is_problem(client.get(f"{folder_job.url}/slow.md?render=1"), 400, "too complex")
    (folder_job.top / "long.md").write_bytes(b"x" * ((1 << 20) + 1))
    is_problem(client.get(f"{folder_job.url}/long.md?render=1"), 400, "1,048,576 bytes")
    (folder_job.top / "text.txt").write_bytes(b"x")
    is_problem(client.get(f"{folder_job.url}/text.txt?render=1"), 400, "render must be 0", ".md")


class TruncatedFile(OpenFile):
    """A file that a job has truncated after it was opened."""

    size, modified, version = 10, 0.0, ""

    def read(self, offset: int, limit: int) -> bytes:
        return b"text"[offset : offset + limit]


def test_markdown_that_the_job_truncates_meanwhile_is_a_conflict() -> None:
    with pytest.raises(Conflict, match="bytes 4 to 10 of the file no longer exist"):
        render(TruncatedFile())


# --- In a browser ---------------------------------------------------------------------------------

HOSTILE_HTML = """<!doctype html><base href=URL/>
<meta http-equiv=refresh content="0;url=URL/refresh"><link rel=stylesheet href=URL/css>
<link rel=prefetch href=URL/prefetch><link rel=icon href=URL/icon>
<link rel=preload as=image href=URL/preload><style>@import 'URL/import'; p {background: url(URL/bg)}
</style><p>text<img src=URL/img><iframe src=URL/frame></iframe><object data=URL/object></object>
<embed src=URL/embed><video src=URL/video></video><form action=URL/form><button autofocus>x</button>
</form><script>document.querySelector("p").textContent = "ran"; fetch("URL/fetch");
navigator.sendBeacon("URL/beacon"); new WebSocket("WS/socket")</script>"""
HOSTILE_SVG = """<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"
onload="fetch('URL/onload')">
<script>fetch('URL/script')</script><style>@import 'URL/css';</style><image href="URL/image"/>
<use href="URL/use#a"/><text>text</text><foreignObject width="9" height="9">
<img xmlns="http://www.w3.org/1999/xhtml" src="URL/foreign"/></foreignObject></svg>"""
HOSTILE_MARKDOWN = "text ![](URL/image) <script src=URL/script></script> <img src=URL/html>\n"


def test_a_file_that_is_opened_in_a_browser_sends_no_request(
    files: Files, context: BrowserContext
) -> None:
    asked: list[str] = []

    def note(request: Request) -> RawAnswer:
        asked.append(request.path)
        return RawAnswer(200)

    page = context.new_page()
    with serve(note) as url:
        for name, text in (
            ("hostile.html", HOSTILE_HTML),
            ("hostile.svg", HOSTILE_SVG),
            ("hostile.md", HOSTILE_MARKDOWN),
        ):
            own = text.replace("URL", url).replace("WS", url.replace("http", "ws"))
            files.write(name.encode(), own.encode())
            address = f"{files.site.url}/jobs/{files.id}/files/{name}"
            page.goto(f"{address}?render=1" if name.endswith(".md") else address)
            expect(page.get_by_text("text")).to_be_attached()
            assert page.url.startswith(address)
        page.close()
    assert asked == []


# --- Who can read them ----------------------------------------------------------------------------


def test_a_ticket_allows_reading_the_files_of_its_job_from_its_page(locked: Site) -> None:
    page = "http://page.example"
    ids = [locked.job_maker.ended() for _ in range(2)]
    for job_id in ids:
        files_of(locked.job_maker, job_id).mkdir()
        (files_of(locked.job_maker, job_id) / "a.txt").write_text("hello")
    ticket = locked.post(f"/jobs/{ids[0]}/ticket", {"origin": page}).json()["ticket"]
    for end in ("", "/a.txt", ".zip"):
        url = f"{locked.url}/jobs/{ids[0]}/files{end}?ticket={ticket}"
        answer = requests.get(url, headers={"Origin": page}, timeout=30)
        assert (answer.status_code, answer.headers["Access-Control-Allow-Origin"]) == (200, page)
        assert requests.get(url, headers={"Origin": f"{page}.evil"}, timeout=30).status_code == 403
        assert requests.get(url.replace(ids[0], ids[1]), timeout=30).status_code == 401


# --- Several machines -----------------------------------------------------------------------------


def test_files_of_a_job_on_another_machine_can_be_read_once_it_has_ended(
    redis_url: str, tmp_path: Path
) -> None:
    client = create_app({"STORAGE": redis_url}).test_client()
    machine = RedisMachine(redis_url, str(tmp_path / "spool"))
    machine.listen(())
    url = f"/jobs/{machine.submit(Job(command='true')).id}/files"
    claim = machine.claim("worker", "host")
    assert claim is not None
    top = Path(claim.folder, "files")
    (top / "sub").mkdir(parents=True)
    for name, content in ((b"sub/a.txt", b"0123456789"), (b"b\xff.bin", os.urandom(200_000))):
        Path(os.fsdecode(os.path.join(os.fsencode(top), name))).write_bytes(content)
    machine.sync()
    for end in ("", "/sub/a.txt", ".zip"):
        is_problem(client.get(url + end), 409, "runs on", str(top))
    with claim:
        claim.finish(Outcome(Status.SUCCEEDED))
    machine.sync()
    listing = client.get(url).json
    assert listing["elsewhere"] is None and listing["complete"] is True
    assert [each["path"] for each in listing["files"]] == ["b\ufffd.bin", "sub", "sub/a.txt"]
    part = client.get(f"{url}/sub/a.txt", headers={"Range": "bytes=2-4"})
    assert (part.status_code, part.data) == (206, b"234")
    is_problem(client.get(f"{url}/sub"), 409, "'sub' is a folder")
    is_problem(client.get(f"{url}/c"), 404, "there is no file 'c'")
    archive = zipped(client.get(f"{url}.zip").data)
    assert archive.testzip() is None and archive.namelist() == ["b_.bin", "sub/a.txt"]
    assert client.get(listing["files"][2]["url"]).data == archive.read("sub/a.txt")
    assert len(archive.read("b_.bin")) == 200_000
    machine.close()


def test_files_that_are_only_listed_are_not_in_an_archive(redis_url: str, tmp_path: Path) -> None:
    client = create_app({"STORAGE": redis_url}).test_client()
    machine = RedisMachine(redis_url, str(tmp_path / "spool"))
    machine.listen(())
    machine.relay.outbox.most_files = 3
    url = f"/jobs/{machine.submit(Job(command='true')).id}/files"
    with machine.claim("worker", "host") as claim:
        os.mkdir(f"{claim.folder}/files")
        Path(claim.folder, "files", "a.txt").write_bytes(b"0123")
        claim.finish(Outcome(Status.SUCCEEDED))
    machine.sync()
    listing = client.get(url).json
    assert [each["size"] for each in listing["files"]] == [4]
    for end in ("/a.txt", ".zip"):
        is_problem(client.get(url + end), 409, listing["elsewhere"])
    machine.close()
