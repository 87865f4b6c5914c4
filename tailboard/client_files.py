"""Reading the files of a job over HTTP for the client, and saving them.

Imports only `requests`, the standard library and client_http.py."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable, Iterator
from urllib.parse import quote, unquote_to_bytes

import requests

from tailboard.client_http import ApiError, HttpClient, Json, job_path

CHUNK = 1 << 16  # bytes read at a time


def request_path(job_id: str, path: str | bytes) -> str:
    """The path of the request for a file. ApiError if no file can have this path: "..", for
    example, would lead to another request."""
    raw = os.fsencode(path)
    if {b"", b".", b".."} & set(raw.split(b"/")):
        message = f"{os.fsdecode(raw)!r} is not the path of a file: it has an empty name, . or .."
        raise ApiError(message, 404)
    return f"{job_path(job_id)}/files/{quote(raw)}"


def entry_path(job_id: str, entry: Json) -> bytes:
    """The path of an entry of a list as bytes: `path` has lost those that are not UTF-8. ApiError
    if the server sends something else."""
    begin, url = f"{job_path(job_id)}/files/", entry.get("url")
    if not isinstance(url, str) or not url.startswith(begin):
        raise ApiError("the server sent a list of files that is not Tailboard's")
    return unquote_to_bytes(url.removeprefix(begin))


def read_file(http: HttpClient, job_id: str, path: str | bytes) -> Iterator[bytes]:
    """The bytes of a file."""
    with http.request("GET", request_path(job_id, path), stream=True) as answer:
        try:
            yield from answer.iter_content(CHUNK)
        except requests.exceptions.ChunkedEncodingError:  # the response is too short
            message = (
                f"{os.fsdecode(path)!r} was not sent to its end: perhaps the job has changed it"
            )
            raise ApiError(message) from None
        except requests.RequestException as error:
            raise http.explain(error) from None


def save_file(folder: int, name: str | bytes, chunks: Iterable[bytes]) -> None:
    """Make a file with this content in an open folder. It has its name only once it is complete.
    FileExistsError if anything has this name."""
    part = f".tailboard-{os.urandom(8).hex()}.part"
    fd = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666, dir_fd=folder)
    try:
        with open(fd, "wb") as file:
            file.writelines(chunks)
        give_name(folder, part, name)
    except BaseException:
        os.unlink(part, dir_fd=folder)
        raise


def give_name(folder: int, part: str, name: str | bytes) -> None:
    """Rename a file. FileExistsError if anything has the new name, which a rename would replace."""
    try:
        os.link(part, name, src_dir_fd=folder, dst_dir_fd=folder, follow_symlinks=False)
    except OSError as error:
        if error.errno == errno.EEXIST or exists_in(folder, name):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), name) from None
        os.rename(part, name, src_dir_fd=folder, dst_dir_fd=folder)  # it has no hard links
    else:
        os.unlink(part, dir_fd=folder)


def exists_in(folder: int, name: str | bytes) -> bool:
    """Does an open folder contain anything with this name?"""
    try:
        os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True
