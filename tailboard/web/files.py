"""Listing and reading the files of a job over HTTP.

A job is hostile to the visitors who look at its files, so a file must never act with their rights:
each response with its content forbids scripts, requests and forms (CONTENT_HEADERS), has a type of
a fixed table, and cannot be embedded by pages of other sites."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

from flask import Response, abort, request
from werkzeug.exceptions import RequestedRangeNotSatisfiable

from tailboard.errors import StoreError
from tailboard.job import Job
from tailboard.job_files import FileEntry, FileKind, OpenFile, safe_name, show_path
from tailboard.values import utc
from tailboard.web.file_types import FileType, type_of
from tailboard.web.log_search import searcher
from tailboard.web.markdown import LONGEST_MARKDOWN, render_markdown
from tailboard.web.models import FileQuery
from tailboard.web.problems import DownloadBroken, problem_response
from tailboard.web.state import state

READ_BYTES = 1 << 16  # of one chunk of a response
CONTENT_HEADERS = {
    "Content-Security-Policy": (
        "sandbox; default-src 'none'; style-src 'unsafe-inline'; img-src data:; font-src data:; "
        "media-src data:; form-action 'none'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "Cross-Origin-Resource-Policy": "same-origin",  # fetch() of the dashboard's page is not barred
    "Referrer-Policy": "no-referrer",  # the URL can contain a ticket
    "X-Content-Type-Options": "nosniff",
}


def list_job_files(job_id: str) -> dict[str, Any]:
    """The response to a request for the list of a job's files."""
    listing = state().store.list_files(job_id)
    shown = [show_entry(job_id, entry) for entry in listing.entries]
    return {"files": shown, "complete": listing.is_complete, "elsewhere": listing.elsewhere}


def show_entry(job_id: str, entry: FileEntry) -> dict[str, Any]:
    return {
        "path": entry.path.decode(errors="replace"),
        "url": f"/jobs/{job_id}/files/{quote(entry.path)}",
        "kind": entry.kind,
        "size": entry.size if entry.kind is FileKind.FILE else None,
        "modified": utc(entry.modified),
    }


def raw_path(job_id: str) -> bytes:
    """The bytes of the path of the requested file: `request.path` has lost those that are not
    UTF-8. PATH_INFO has them as Latin-1 (PEP 3333)."""
    raw: str = request.environ["PATH_INFO"]
    return raw.encode("latin-1").split(b"/", 4)[4]  # after /jobs/ID/files/


def send_file(job: Job, path: bytes, query: FileQuery) -> Response:
    """A file of a job, a Range of it, or its Markdown as HTML; 304 if the client already has it."""
    kind = type_of(path)
    if query.render and not kind.is_markdown:
        abort(400, "render must be 0, unless the name of the file ends in .md or .markdown")
    try:
        file = state().store.open_file(job.id, path)
    except FileNotFoundError:
        abort(404, f"there is no file {show_path(path)} in the files of job {job.id}")
    etag = f'"{job.id}.{file.version}"'
    headers = CONTENT_HEADERS | {"ETag": etag, "Cache-Control": "no-cache"}
    if request.if_none_match.contains_weak(etag.strip('"')):
        file.close()
        return Response(status=304, headers=headers)
    if query.render:
        with file:
            return Response(render(file), headers=headers, mimetype="text/html")
    headers["Content-Disposition"] = disposition(path, kind, query.download)
    return send_range(file, headers, kind)


def send_range(file: OpenFile, headers: dict[str, str], kind: FileType) -> Response:
    """The file, or the Range that the request asks for. A file that is still growing is sent up to
    its current end."""
    begin, end = 0, file.size
    wanted = request.range if request.headers.get("If-Range") in (None, headers["ETag"]) else None
    is_part = wanted is not None and wanted.units == "bytes"
    if wanted is not None and is_part:
        first, last = wanted.ranges[0]  # if there are several ranges, only the first is sent
        begin = max(0, file.size + first) if first < 0 else first
        end = min(file.size, last) if last else file.size
        if begin >= end:
            file.close()
            return beyond_end(file.size)
    response = Response(
        iter_file(file, begin, end), headers=headers, content_type=kind.content_type
    )
    response.accept_ranges, response.content_length = "bytes", end - begin
    if is_part:
        response.status_code = 206
        response.content_range.set(begin, end, file.size)
    response.call_on_close(file.close)
    return response


def beyond_end(size: int) -> Response:
    """The 416 for a file of this size."""
    message = f"Range must begin before byte {size}, the end of the file"
    response = problem_response(RequestedRangeNotSatisfiable(size, description=message))
    response.headers.remove("X-Log-Size")
    return response


def iter_file(file: OpenFile, at: int, end: int) -> Iterator[bytes]:
    """The bytes of a file. DownloadBroken if some no longer exist, because the job has truncated
    it, or if they cannot be read."""
    while at < end:
        try:
            data = file.read(at, min(READ_BYTES, end - at))
        except StoreError:
            raise
        except OSError as error:
            raise DownloadBroken(f"byte {at} of the file cannot be read: {error}") from None
        if not data:
            raise DownloadBroken(f"bytes {at} to {end} of the file no longer exist")
        yield data
        at += len(data)


def render(file: OpenFile) -> bytes:
    """The Markdown of a file as an HTML document; 400 if it is too long, 409 if the job truncates
    it meanwhile. It takes a turn among the searches of long logs, since it keeps a CPU busy,
    too."""
    if file.size > LONGEST_MARKDOWN:
        abort(400, f"render must be 0 for a file of more than {LONGEST_MARKDOWN:,} bytes")
    try:
        text = b"".join(iter_file(file, 0, file.size))
    except DownloadBroken as error:
        abort(409, f"{error}: perhaps the job is changing it; try again")
    with state().searches.turn(searcher()):
        return render_markdown(text)


def disposition(path: bytes, kind: FileType, is_download: bool) -> str:
    """The header that names the file for saving it, in the form of RFC 6266."""
    name = safe_name(path.rpartition(b"/")[2])
    how = "attachment" if is_download or not kind.is_shown else "inline"
    plain = name.encode("ascii", "replace").decode().replace("?", "_").replace("%", "_")
    return f"{how}; filename=\"{plain}\"; filename*=UTF-8''{quote(name, '')}"
