"""`tailboard files`: list, print or download the files of a job."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime

import click

from tailboard.cli.completers import job_ids
from tailboard.cli.logs import write
from tailboard.cli.target import client
from tailboard.cli.terminal import Commands, WrongUsage, echo_line, find, printable
from tailboard.client import ApiError, Json
from tailboard.client_files import entry_path, exists_in, save_file
from tailboard.job_files import MAX_LISTED, is_file_path, show_path

commands = Commands()


@commands.command("files")
@click.argument("job_id", metavar="ID", shell_complete=job_ids)
@click.argument("path", required=False)
@click.option(
    "--get",
    "folder",
    type=click.Path(file_okay=False),
    metavar="FOLDER",
    help="Download all files, or those below PATH, into FOLDER.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per line.")
def files_command(job_id: str, path: str | None, folder: str | None, as_json: bool) -> None:
    """List the files of a job, with their sizes and when they were changed. With PATH, print that
    file as it is."""
    if as_json and (path is not None or folder is not None):
        raise WrongUsage("--json lists all files: give neither PATH nor --get with it")
    found = find(job_id)["id"]
    if path is not None and folder is None:
        write(client().read_file(found, path))
        return
    listing = client().files(found)
    if folder is not None:
        download(found, listing, path, folder)
        return
    entries = listing["files"]
    for line in map(json.dumps, entries) if as_json else aligned(entries):
        echo_line(line)
    if not entries:
        echo_line(f"job {found} has no files", err=True)
    report_rest(listing)


def report_rest(listing: Json) -> None:
    """Say so if a list is not complete, or if the files are elsewhere."""
    if listing.get("elsewhere"):
        echo_line(listing["elsewhere"], err=True)
    if not listing["complete"]:
        echo_line(f"the job has more files: at most {MAX_LISTED:,} are listed", err=True)


def aligned(entries: list[Json]) -> list[str]:
    """The entries in columns: the size, or what it is instead of a file; local time; path."""
    sizes = [each["kind"] if each["size"] is None else f"{each['size']:,}" for each in entries]
    width = max(map(len, sizes), default=0)
    return [
        f"{size:>{width}}  {local_time(each['modified'])}  {each['path']}"
        for size, each in zip(sizes, entries, strict=True)
    ]


def local_time(text: str) -> str:
    """A time of the API as the date and the local time, to the minute."""
    moment = datetime.fromisoformat(text)
    with suppress(OverflowError, ValueError, OSError):  # a job can give a file any time
        moment = moment.astimezone()
    return moment.strftime("%Y-%m-%d %H:%M")


# --- Downloading ----------------------------------------------------------------------------------


def download(job_id: str, listing: Json, path: str | None, folder: str) -> None:
    """Download the files of a list into a folder; exits with 1 if some could not be."""
    wanted = [
        (entry_path(job_id, each), each) for each in listing["files"] if each["kind"] != "folder"
    ]
    if listing.get("elsewhere"):
        raise click.ClickException(printable(listing["elsewhere"]))
    if path is not None:
        below = os.fsencode(path).rstrip(b"/")
        wanted = [each for each in wanted if each[0] == below or each[0].startswith(below + b"/")]
        if not wanted and not listing["complete"]:  # perhaps it is a file that is not listed
            wanted = [(below, {"kind": "file"})]
    if not wanted:
        report_rest(listing)
        what = "no files" if path is None else f"no file at or below {path!r}"
        raise click.ClickException(printable(f"job {job_id} has {what}"))
    os.makedirs(folder, exist_ok=True)
    top = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        done = [download_one(job_id, each, entry, top, folder) for each, entry in wanted]
    finally:
        os.close(top)
    report_rest(listing)
    sys.exit(0 if all(done) and listing["complete"] else 1)


def download_one(job_id: str, path: bytes, entry: Json, top: int, folder: str) -> bool:
    """Download a file into an open folder. Returns False, after a sentence that says why, if it
    cannot be read or written; another file may do. The server does not decide where it goes:
    neither its path nor a link in the folder leads out of the folder."""
    place = os.path.join(os.fsencode(folder), path).decode(errors="replace")
    try:
        if not is_file_path(path):
            raise ApiError(f"{show_path(path)} is not the path of a file")
        if entry["kind"] != "file":
            raise ApiError(f"{show_path(path)} was not downloaded: it is a {entry['kind']}")
        *above, name = path.split(b"/")
        with make_folders(top, above) as parent:
            if exists_in(parent, name):
                raise FileExistsError
            save_file(parent, name, client().read_file(job_id, path))
    except FileExistsError:
        echo_line(f"{place} exists already and was not replaced", err=True)
        return False
    except OSError as error:
        echo_line(f"{place} cannot be written: {error.strerror}", err=True)
        return False
    except ApiError as error:
        if error.may_pass or error.status == 401:
            raise
        echo_line(str(error), err=True)
        return False
    echo_line(place)
    return True


@contextmanager
def make_folders(top: int, names: list[bytes]) -> Iterator[int]:
    """The folder below `top` to which these names lead, made if it does not exist. OSError if one
    of them is a link."""
    fd = os.dup(top)
    try:
        for name in names:
            with suppress(FileExistsError):
                os.mkdir(name, dir_fd=fd)
            below = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=fd)
            os.close(fd)
            fd = below
        yield fd
    finally:
        os.close(fd)
