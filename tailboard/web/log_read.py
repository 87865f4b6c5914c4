"""Reading a log over HTTP: its end, a range of it, or all of it as a download."""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator

from flask import Response, abort, request
from werkzeug.exceptions import RequestedRangeNotSatisfiable

from tailboard.job import Job
from tailboard.logs import TAIL_BYTES, EmptyLog, Log
from tailboard.status import FINISHED
from tailboard.web.models import LogQuery
from tailboard.web.problems import DownloadBroken
from tailboard.web.state import state

MAX_TIMESTAMPED_BYTES = 256 << 10  # of a log with times: an empty line grows from 1 to 26 bytes
NAME_LENGTH = 60  # characters of a job's name in the name of a file


def open_log(job_id: str) -> Log:
    """The job's log. If the job has no log yet, an empty one, which is not an error here."""
    try:
        return state().store.open_log(job_id)
    except FileNotFoundError:
        return EmptyLog()


def begin_at(log: Log, query: LogQuery, size: int) -> int:
    """The offset at which the response begins; 416 if it is past the end of the log."""
    if query.offset is not None:
        if query.offset > size:
            message = f"offset must be at most {size}, the size of the log"
            raise RequestedRangeNotSatisfiable(size, description=message)
        return query.offset
    if query.since is not None:
        return min(size, log.offset_at_time(query.since))
    return log.tail(query.tail, size, MAX_TIMESTAMPED_BYTES if query.timestamps else TAIL_BYTES)


def place_line(job: Job, log: Log, query: LogQuery) -> LogQuery:
    """The query with the offset of the line that it asks for. 416 if the log has no such line, 503
    if finding it takes too long."""
    if query.line is None:
        return query
    if log.start > 0:
        message = "line cannot be used: the beginning of this log was deleted"
        raise RequestedRangeNotSatisfiable(log.size, description=message)
    found = state().line_counts.offset_of(job.id, log, query.line, log.size)
    if found is None:
        abort(503, "counting the lines of this log takes time; repeat the request")
    offset, number = found
    if number < query.line:
        message = f"line must be at most {number}, the number of lines of the log"
        raise RequestedRangeNotSatisfiable(log.size, description=message)
    return query.model_copy(update={"offset": offset})


def log_headers(job: Job, log: Log, begin: int, end: int, size: int) -> dict[str, str]:
    """The headers of a response that contains the bytes of the log from `begin` to `end`."""
    return {
        "ETag": f'"{job.id}.{job.attempt}.{job.status}.{size}.{log.start}"',
        "X-Log-Offset": str(begin),
        "X-Log-Next": str(end),
        "X-Log-Size": str(size),
        "X-Log-Start": str(log.start),
        "X-Log-Complete": str(job.status in FINISHED and end == size).lower(),
        "X-Job-Status": job.status,
        "Cache-Control": "no-cache",
    }


def read_range(job: Job, log: Log, query: LogQuery) -> Response:
    """The part of the log that the query selects; 304 if the client already has it."""
    size = log.size
    etag = log_headers(job, log, 0, 0, size)["ETag"]
    if request.if_none_match.contains_raw(etag):
        return Response(status=304, headers={"ETag": etag})
    begin, data = read_asked(log, query, size)
    cut = begin + len(data) < size
    kept = trim_partial_utf8(data, job.status in FINISHED and not cut)
    data = kept if kept or not cut else data  # the limit is too small for even one character
    headers = log_headers(job, log, begin, begin + len(data), size)
    line_counts = state().line_counts
    if (number := line_counts.number_at(job.id, log, begin)) is not None:
        headers["X-Log-Line"] = str(number)
    if (lines := line_counts.total(job.id, log, size)) is not None:
        headers["X-Log-Lines"] = str(lines)
    body = log.add_timestamps(begin, data) if query.timestamps else data
    return Response(body, headers=headers, mimetype="text/plain")


def read_asked(log: Log, query: LogQuery, size: int) -> tuple[int, bytes]:
    """The offset at which the selected bytes begin, and these bytes."""
    most = MAX_TIMESTAMPED_BYTES if query.timestamps else TAIL_BYTES
    if query.offset is None and query.since is None:
        return log.read_tail(query.tail, size, most)
    begin = begin_at(log, query, size)
    limit = min(query.limit_bytes, size - begin)
    return log.read(begin, min(limit, most) if query.timestamps else limit)


def trim_partial_utf8(data: bytes, ended: bool) -> bytes:
    """The bytes without an incomplete UTF-8 character at their end, whose rest may still be
    written. If the log has `ended`, nothing follows, and the bytes are returned as they are."""
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    decoder.decode(data[-3:], final=ended)
    return data[: len(data) - len(decoder.getstate()[0])]


def download(job: Job) -> Response:
    """The log as a file, or a Range of it. A log that is still growing is sent up to its current
    end."""
    log = open_log(job.id)
    start, size = log.start, log.size
    begin, end, length = start, size, size - start
    etag = log_headers(job, log, begin, end, size)["ETag"]
    wanted = request.range if request.headers.get("If-Range") in (None, etag) else None
    if wanted and wanted.units == "bytes":
        first, last = wanted.ranges[0]  # if there are several ranges, only the first is sent
        begin = max(start, size + first) if first < 0 else start + first
        end = min(size, start + last) if last else size
        if begin >= end:
            log.close()
            abort(416, length)
    headers = log_headers(job, log, begin, end, size)
    response = Response(iter_range(log, begin, end), headers=headers, mimetype="text/plain")
    response.headers.set("Content-Disposition", "attachment", filename=file_name(job, ".log"))
    response.accept_ranges, response.content_length = "bytes", end - begin
    if wanted and wanted.units == "bytes":
        response.status_code = 206
        response.content_range.set(begin - start, end - start, length)
    response.call_on_close(log.close)
    return response


def file_name(job: Job, end: str) -> str:
    """The name of a file that is downloaded: the job's name, without characters that a file system
    could refuse, its ID, and this end."""
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", job.name or "")[:NAME_LENGTH].strip("-.")
    return f"{name}-{job.id}{end}" if name else f"{job.id}{end}"


def iter_range(log: Log, at: int, end: int) -> Iterator[bytes]:
    """The bytes of a log. DownloadBroken if some no longer exist, because the beginning of the log
    was removed or the job has truncated it: the download must not contain anything else instead.
    """
    while at < end:
        begin, data = log.read(at, min(log.read_size, end - at))
        if begin > at or not data:
            raise DownloadBroken(f"bytes {at} to {end} of the log no longer all exist")
        yield data
        at += len(data)
