"""The files of a job over HTTP: their list, each of them, and all of them in an archive.

Jobs are hostile: each name and each kind of entry that could lead out of the folder, or stop the
API, has its expected response here."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

import pytest
import requests
from conftest import JobMaker, Site

SECRET = b"root:x:0:0"  # the beginning of /etc/passwd
SCRIPT = b"<script>parent.location = 'http://127.0.0.1:9'</script>"
SVG = b'<svg xmlns="http://www.w3.org/2000/svg" onload="alert(1)"/>'
LONG = b"n" * 255
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
    with socket.socket(socket.AF_UNIX) as listener:
        os.chdir(made.top)  # a longer path cannot be bound
        listener.bind("socket")
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
        assert is_saved == kind.startswith("application/") * ("json" not in kind), name
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
