"""Records .github/demo.gif, which opens the README, from the real page:

    python tests/record_demo.py [FILE]

A visitor runs an import, which fails; the page shows why, leads from error to error, and shows what
is new compared with earlier successes. The pictures are real screenshots. The time between them is
set here, and the job writes its lines when it is told to, so a busy machine records the same film.
It needs Chromium and takes half a minute.
"""

from __future__ import annotations

import json
import os
import random
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from io import BytesIO
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy
import requests
from browser import chromium
from conftest import ROOT, JobMaker
from page_site import Site, row, served, state, visit
from PIL import Image, ImageDraw
from playwright.sync_api import Browser, Locator, Page, ViewportSize, expect

from tailboard.status import Status
from tailboard.values import first_id

DEMO = ROOT / ".github" / "demo.gif"
SIZE = ViewportSize(width=1000, height=600)
LIST_WIDTH = 300  # pixels
COLOURS = 256
HOLD = 2.5  # seconds for which the last picture is shown

COMMAND = "./import.sh orders.csv"
# The job prints what comes through a FIFO, and fails when the FIFO is closed.
IMPORT = """#!/bin/sh
cat feed
exit 1
"""
GREEN, RED, FAINT, PLAIN = "\033[32m", "\033[1;31m", "\033[90m", "\033[0m"
REJECTED = {  # batch: its rejected rows
    2: ["1,704: unknown product 'TEA-19'"],
    4: ["3,311: price is empty", "3,950: unknown product 'TEA-19'"],
    7: ["6,052: quantity is -1"],
    8: ["7,118: unknown product 'TEA-19'", "7,119: unknown product 'TEA-19'"],
    11: ["10,406: price is empty"],
    12: ["11,873: unknown customer 90233"],
}
END = [
    f"{RED}FATAL: 8 of 12,480 rows were rejected; allowed are 0{PLAIN}",
    "--- Roll back",
    *(f"{FAINT}  {table:<12} unchanged{PLAIN}" for table in ("orders", "order_items", "customers")),
    *(f"{FAINT}  {table:<12} unchanged{PLAIN}" for table in ("prices", "stock")),
    "temporary tables dropped",
    "rejected rows are in /var/tmp/orders.rejected.csv",
    "connection closed",
]

Palette = numpy.ndarray[tuple[int, int], numpy.dtype[numpy.int_]]


class PastJob(NamedTuple):
    """A kind of jobs that have run before: how often, how long and how far apart."""

    name: str
    runs: int
    seconds: float
    every: float  # minutes
    ago: float  # minutes since the last run
    failed: tuple[int, ...] = ()  # which runs; 0 is the newest
    error: str = ""


PAST = [
    PastJob("backup db1", 14, 130, 20, 11),
    PastJob("tests (main)", 9, 36, 25, 4),
    PastJob("lint", 12, 8, 18, 7, (5, 6), "ERROR: 2 files would change"),
    PastJob("deploy staging", 2, 49, 180, 31),
    PastJob("renew certificates", 3, 21, 360, 52),
    PastJob("weekly report", 1, 95, 1, 73),
    PastJob(COMMAND, 7, 24, 95, 84),
]
SCHEDULES = {"nightly-import": "30 3 * * *", "weekly-report": "0 7 * * 1"}


# --- The film -------------------------------------------------------------------------------------


class Film:
    """Screenshots of a page and how long each is shown, in milliseconds."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.pictures: list[Image.Image] = []
        self.durations: list[int] = []
        self.place = (SIZE["width"] * 0.62, SIZE["height"] * 0.75)  # of the mouse pointer

    def shoot(self, seconds: float) -> None:
        """Shows the page as it is now for this long."""
        self.add(self.screenshot(), seconds)

    def screenshot(self) -> Image.Image:
        return Image.open(BytesIO(self.page.screenshot(animations="disabled"))).convert("RGB")

    def add(self, picture: Image.Image, seconds: float) -> None:
        picture = with_pointer(picture, self.place)
        duration = round(seconds * 1000)
        if self.pictures and self.pictures[-1].tobytes() == picture.tobytes():
            self.durations[-1] += duration
            return
        self.pictures.append(picture)
        self.durations.append(duration)

    def move_to(self, target: Locator) -> None:
        """Moves the pointer to an element, in half a second."""
        box = target.bounding_box()
        assert box is not None
        begin, background = self.place, self.screenshot()
        end = (box["x"] + box["width"] * 0.7, box["y"] + box["height"] * 0.7)  # beside its text
        for step in range(1, 9):
            part = ease(step / 8)
            self.place = (
                begin[0] + (end[0] - begin[0]) * part,
                begin[1] + (end[1] - begin[1]) * part,
            )
            self.add(background, 0.05)
        self.page.mouse.move(*end)
        self.shoot(0.12)

    def click(self, target: Locator) -> None:
        self.move_to(target)
        self.page.mouse.click(*self.place)

    def type(self, text: str) -> None:
        for begin in range(0, len(text), 2):
            self.page.keyboard.type(text[begin : begin + 2])
            self.shoot(0.1)

    def save(self, path: Path) -> None:
        """Writes the film with one palette for all pictures, so only changes are stored."""
        palette = common_palette(self.pictures)
        frames = [in_palette(picture, palette) for picture in self.pictures]
        frames[0].save(
            path, save_all=True, append_images=frames[1:], duration=self.durations, loop=0
        )


def ease(part: float) -> float:
    """A movement from 0 to 1 that begins and ends slowly."""
    return part * part * (3 - 2 * part)


POINTER = [(0, 0), (0, 17), (4, 13), (7, 20), (10, 19), (7, 12), (12, 12)]  # its outline, in pixels


def with_pointer(picture: Image.Image, place: tuple[float, float]) -> Image.Image:
    """The picture with a mouse pointer, which a screenshot lacks. It is drawn four times as large
    and made smaller, for smooth edges."""
    large = Image.new("RGBA", (64, 96))
    outline = [(4 * x + 8, 4 * y + 8) for x, y in POINTER]
    ImageDraw.Draw(large).polygon(outline, fill="black", outline="white", width=5)
    pointer = large.resize((16, 24), Image.Resampling.LANCZOS)
    drawn = picture.copy()
    drawn.paste(pointer, (round(place[0]) - 2, round(place[1]) - 2), pointer)
    return drawn


def common_palette(pictures: list[Image.Image]) -> Palette:
    """The most frequent colours of all pictures, as rows of red, green and blue."""
    counts: Counter[tuple[int, ...]] = Counter()
    for picture in pictures:
        for count, colour in picture.getcolors(SIZE["width"] * SIZE["height"]):
            counts[colour] += count
    return numpy.array([colour for colour, _ in counts.most_common(COLOURS)], dtype=int)


def in_palette(picture: Image.Image, palette: Palette) -> Image.Image:
    """The picture in the nearest colours of the palette. Pillow's own `quantize` compares only the
    upper bits of each part, which turns white into grey."""
    pixels = numpy.asarray(picture).reshape(-1, 3) @ numpy.array([1 << 16, 1 << 8, 1])
    numbers, places = numpy.unique(pixels, return_inverse=True)
    colours = numpy.stack([numbers >> 16, numbers >> 8 & 255, numbers & 255], axis=1)
    distances = ((colours[:, None, :] - palette[None, :, :]) ** 2).sum(axis=2)
    indices = distances.argmin(axis=1)[places].astype(numpy.uint8)
    drawn = Image.frombytes("P", picture.size, indices.tobytes())
    drawn.putpalette(palette.astype(numpy.uint8).tobytes())
    return drawn


# --- What happened before -------------------------------------------------------------------------


def make_past_jobs(folder: Path) -> None:
    maker, lots = JobMaker(folder), random.Random(29)
    for past in PAST:
        for run in range(past.runs):
            is_failed = run in past.failed
            status = Status.FAILED if is_failed else Status.SUCCEEDED
            lines = [*batches({}), "imported 12,480 rows"] if past.name == COMMAND else ["done"]
            content = "".join(f"{line}\n" for line in ([past.error] if is_failed else lines))
            ended = maker.ended(content.encode(), status, command=past.name, queue="default")
            job = maker.log(ended).parent
            ago = timedelta(minutes=past.ago + run * past.every)
            seconds = past.seconds * lots.uniform(0.8, 1.15)
            move_back(job, datetime.now(UTC) - ago, seconds, past.error if is_failed else None)


def move_back(job: Path, begin: datetime, seconds: float, hint: str | None) -> None:
    """Moves a job that has ended into the past."""
    end = begin + timedelta(seconds=seconds)
    record = json.loads((job / "job.json").read_text())
    record |= {"id": first_id(begin.timestamp()), "submitted_at": rfc3339(begin)}
    lines = [json.loads(line) for line in (job / "journal").read_text().split("\n") if line]
    for line in lines:
        if "claimed" in line:
            line["claimed"] |= {"started_at": rfc3339(begin)}
        if "ended" in line:
            line["ended"] |= {"finished_at": rfc3339(end), "hint": hint}
            line["ended"] |= {"exit_code": 0 if hint is None else 1}
    (job / "job.json").write_text(json.dumps(record))
    (job / "journal").write_text("".join(f"\n{json.dumps(line)}\n" for line in lines))
    day = job.parent.parent / record["id"][:8]
    day.mkdir(exist_ok=True)
    job.rename(day / record["id"])


def save_schedules(api: str) -> None:
    for name, cron in SCHEDULES.items():
        body = {"command": f"./{name}.sh", "cron": cron, "zone": "Europe/Berlin"}
        requests.put(f"{api}/saved/{name}", json=body).raise_for_status()


def start_backup(site: Site) -> None:
    """A job that runs during the whole film."""
    job = site.submit("echo 'dumping db1: table 7 of 31'; sleep 600", "backup db1")
    site.wait(job, "running")


def rfc3339(moment: datetime) -> str:
    return f"{moment:%Y-%m-%dT%H:%M:%S.%f}"[:-3] + "Z"


# --- The scenes -----------------------------------------------------------------------------------


def batches(rejected: Mapping[int, Sequence[str]]) -> Iterator[str]:
    """The lines of an import until all batches are read."""
    yield "--- Connect"
    yield "connected to db1, schema 42"
    yield "orders.csv: 12,480 rows in 13 batches"
    yield "--- Import"
    for batch in range(1, 14):
        yield from (f"{RED}ERROR{PLAIN} row {each}" for each in rejected.get(batch, []))
        rows = (480 if batch == 13 else 1000) - len(rejected.get(batch, []))
        yield f"batch {batch:2}/13  {rows:5,} rows  {GREEN}ok{PLAIN}"
        if batch % 4 == 0:
            yield f"::progress {batch} of 13 batches"


def in_parts(lines: Iterable[str], size: int) -> Iterator[str]:
    """The lines, joined to parts of this many."""
    kept = list(lines)
    for begin in range(0, len(kept), size):
        yield "".join(f"{line}\n" for line in kept[begin : begin + size])


def run_import(film: Film, page: Page) -> None:
    """From the home to a running job."""
    film.shoot(0.8)
    film.click(page.get_by_role("button", name="+ Run"))
    command = page.get_by_label("Command", exact=True)
    expect(command).to_be_focused()
    expect(page.get_by_role("list", name="Saved commands")).to_contain_text("nightly-import")
    film.shoot(0.3)
    film.type(COMMAND)
    film.click(page.get_by_role("button", name="Run job"))
    expect(state(page)).to_have_text("live")
    film.move_to(page.locator(".actions"))  # its empty part, where nothing reacts to the pointer


def show_lines(film: Film, page: Page, feed: Path) -> None:
    """The lines arrive; then the job fails."""
    log, slots = page.get_by_role("log"), page.locator(".slots")
    expect(slots).to_have_text("2 of 2 slots busy")
    with open(feed, "w") as lines:
        for part in in_parts([*batches(REJECTED), *END], 3):
            lines.write(part)
            lines.flush()
            last = part.split("\n")[-2].removeprefix("--- ")
            expect(log).to_contain_text(last.split("\033")[0])
            film.shoot(0.24)
    expect(state(page)).to_have_text("failed, exit 1")
    expect(page.locator(".error-count")).to_have_text("✕ 9 errors")
    expect(page.get_by_text("Why it failed")).to_be_visible()
    expect(row(page, COMMAND).first).to_contain_text("FATAL")
    expect(slots).to_have_text("1 of 2 slots busy")
    film.shoot(1.2)


def show_errors(film: Film, page: Page) -> None:
    """From error to error."""
    following = page.get_by_role("button", name="Next error")
    for count in (1, 2):
        film.click(following)
        expect(page.locator(".error-count")).to_have_text(f"✕ {count} of 9 errors")
        film.shoot(0.7)


def show_new_lines(film: Film, page: Page) -> None:
    """The lines that no earlier success has."""
    film.click(page.locator(".only-new"))
    expect(page.get_by_role("region", name="New lines")).to_contain_text("FATAL")
    film.shoot(HOLD)


def record(site: Site, browser: Browser, feed: Path) -> Film:
    page = browser.new_page(viewport=SIZE, locale="en-GB", timezone_id="Europe/Berlin")
    page.add_init_script(f"localStorage.setItem('tailboard.list-width', '{LIST_WIDTH}')")
    visit(page, site.url)
    expect(page.get_by_role("region", name="Home")).to_contain_text("dumping db1")
    expect(page.locator(".slots")).to_have_text("1 of 2 slots busy")
    film = Film(page)
    run_import(film, page)
    show_lines(film, page, feed)
    show_errors(film, page)
    show_new_lines(film, page)
    return film


def main() -> None:
    path = Path(sys.argv[1]) if len(sys.argv) > 1 else DEMO
    with tempfile.TemporaryDirectory() as name:
        shop = Path(name)
        (shop / "import.sh").write_text(IMPORT)
        (shop / "import.sh").chmod(0o755)
        os.mkfifo(shop / "feed")
        make_past_jobs(shop / "jobs")
        with served(shop, worker=False) as site, chromium() as browser:
            site.processes.start(sys.executable, str(ROOT / "worker.py"), "--slots=2", home=shop)
            save_schedules(site.api)
            start_backup(site)
            film = record(site, browser, shop / "feed")
    film.save(path)
    seconds = sum(film.durations) / 1000
    print(f"{path}: {len(film.pictures)} pictures, {seconds:.1f} s, {path.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
