"""Reading a log over HTTP: a range, a tail, a download, a line's number."""

from __future__ import annotations

import codecs
import time
from collections.abc import Iterator

from flask import Response, abort, request
from werkzeug.exceptions import RequestedRangeNotSatisfiable

from tailboard.job import Job
from tailboard.logs import TAIL_BYTES, EmptyLog, Log
from tailboard.status import FINISHED
from tailboard.web.models import LogQuery
from tailboard.web.problems import DownloadBroken
from tailboard.web.state import state

COUNT_TIME = 0.02  # seconds of a request for counting lines
COUNT_LIMIT = 256 << 20  # bytes whose lines are counted
LINE_COUNT_CACHE_SIZE = 1_000  # logs whose lines stay counted
LINE_NUMBER_TIME = 0.1  # seconds of a request for counting the lines before its first
MAX_TIMESTAMPED_BYTES = 256 << 10  # of a log, with times: these may make 26 bytes of each
BLOCK = 1 << 16  # bytes of a download's block, and of one event


def open_log(job_id: str) -> Log:
    """The job's log; an empty one where it has none yet, since that is no error here."""
    try:
        return state().store.open_log(job_id)
    except FileNotFoundError:
        return EmptyLog()


def begin_at(log: Log, query: LogQuery, size: int) -> int:
    """The offset at which the answer begins; 416 where that is past the end."""
    if query.offset is not None:
        if query.offset > size:
            message = f"offset must be at most {size}, the size of the log"
            raise RequestedRangeNotSatisfiable(size, description=message)
        return query.offset
    if query.since is not None:
        return min(size, log.offset_at_time(query.since))
    return log.tail(query.tail, size, MAX_TIMESTAMPED_BYTES if query.timestamps else TAIL_BYTES)


def log_headers(job: Job, log: Log, begin: int, end: int, size: int) -> dict[str, str]:
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
    size = log.size
    etag = log_headers(job, log, 0, 0, size)["ETag"]
    if request.if_none_match.contains_raw(etag):
        return Response(status=304, headers={"ETag": etag})
    begin, data = read_asked(log, query, size)
    cut = begin + len(data) < size
    kept = trim_partial_utf8(data, job.status in FINISHED and not cut)
    data = kept if kept or not cut else data  # not even one character fits into the limit
    headers = log_headers(job, log, begin, begin + len(data), size)
    by_lines = query.offset is None and query.since is None
    if by_lines and (lines := count_lines(job.id, log, size)) is not None:
        headers["X-Log-Lines"] = str(lines)
    if (number := line_number(job.id, log, begin)) is not None:
        headers["X-Log-Line"] = str(number)
    body = log.add_timestamps(begin, data) if query.timestamps else data
    return Response(body, headers=headers, mimetype="text/plain")


def read_asked(log: Log, query: LogQuery, size: int) -> tuple[int, bytes]:
    """The bytes that are asked for; first, the offset at which they begin."""
    most = MAX_TIMESTAMPED_BYTES if query.timestamps else TAIL_BYTES
    if query.offset is None and query.since is None:
        return log.read_tail(query.tail, size, most)
    begin = begin_at(log, query, size)
    limit = min(query.limit_bytes, size - begin)
    return log.read(begin, min(limit, most) if query.timestamps else limit)


def count_lines(job_id: str, log: Log, size: int) -> int | None:
    """How many lines the log has; None where its head is gone, it is too large, or until a few
    requests have counted on from where the last one stopped."""
    if log.start > 0 or size > COUNT_LIMIT:
        return None
    at, lines = state().lines.get(job_id, (0, 0))
    at, more = log.count_lines(at, size, time.monotonic() + COUNT_TIME)
    remember_count(job_id, at, lines + more)
    unfinished = size > 0 and log.read(size - 1, 1)[1] != b"\n"
    return lines + more + unfinished if at == size else None


def line_number(job_id: str, log: Log, offset: int) -> int | None:
    """The number, from 1, of the line that the byte at an offset is part of. None if the head of
    the log was removed, if counting up to there would take too long, or until a few requests have
    each continued the count of the one before."""
    if log.start > 0:
        return None
    known, lines = state().lines.get(job_id, (0, 0))
    counted = known
    if offset < counted - offset:  # the beginning is nearer
        counted, lines = 0, 0
    if abs(offset - counted) > COUNT_LIMIT:  # in vain, and again with each request
        return None
    deadline = time.monotonic() + LINE_NUMBER_TIME
    at, more = log.count_lines(min(counted, offset), max(counted, offset), deadline)
    if at > known:
        remember_count(job_id, at, lines + more)
    if at < max(counted, offset):
        return None
    return 1 + (lines + more if offset >= counted else lines - more)


def remember_count(job_id: str, at: int, lines: int) -> None:
    """Remember how many lines end before this offset of a job's log, for the next request."""
    counts = state().lines
    counts.pop(job_id, None)  # the last one of the dictionary is the one used last
    counts[job_id] = at, lines
    while len(counts) > LINE_COUNT_CACHE_SIZE:
        counts.pop(next(iter(counts)), None)


def trim_partial_utf8(data: bytes, ended: bool) -> bytes:
    """The bytes without an unfinished UTF-8 character at their end, whose rest may follow."""
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    decoder.decode(data[-3:], final=ended)
    return data[: len(data) - len(decoder.getstate()[0])]


def download(job: Job) -> Response:
    """The log as a file, or a Range of it. Of one that grows, what is there now."""
    log = open_log(job.id)
    start, size = log.start, log.size
    begin, end, length = start, size, size - start
    etag = log_headers(job, log, begin, end, size)["ETag"]
    wanted = request.range if request.headers.get("If-Range") in (None, etag) else None
    if wanted and wanted.units == "bytes":
        first, last = wanted.ranges[0]  # of several, the first is sent
        begin = max(start, size + first) if first < 0 else start + first
        end = min(size, start + last) if last else size
        if begin >= end:
            log.close()
            abort(416, length)
    headers = log_headers(job, log, begin, end, size)
    response = Response(iter_range(log, begin, end), headers=headers, mimetype="text/plain")
    response.headers["Content-Disposition"] = f"attachment; filename={job.id}.log"
    response.accept_ranges, response.content_length = "bytes", end - begin
    if wanted and wanted.units == "bytes":
        response.status_code = 206
        response.content_range.set(begin - start, end - start, length)
    response.call_on_close(log.close)
    return response


def iter_range(log: Log, at: int, end: int) -> Iterator[bytes]:
    """The bytes of a log. DownloadBroken where some are gone, since the head of the log was given
    back or the job has truncated it: nothing else may stand in their place."""
    while at < end:
        begin, data = log.read(at, min(BLOCK, end - at))
        if begin > at or not data:
            raise DownloadBroken(f"bytes {at} to {end} of the log are not all there any more")
        yield data
        at += len(data)
