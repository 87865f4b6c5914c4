"""The processor time and the memory of jobs, as the page shows them: two lines above the log, and
the tooltips of running jobs."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from conftest import JobMaker
from page_site import Site, check_with_axe, log_of, row, shift_clock, state, visit
from past_runs import Piece, end_with_output, moment_of_start, rewrite_claim, write_output
from playwright.sync_api import Locator, Page, expect

from tailboard.folder.claim import Claim
from tailboard.page import forms, rows
from tailboard.usage import USAGE_RECORD
from tailboard.values import utc

MIB = 1 << 20
IMPORT: tuple[Piece, ...] = (
    *((2.0 * n, f"row {n}\n") for n in range(1, 51)),  # silent from 100 s to 300 s
    *((300 + 2.0 * n, f"chunk {n}\n") for n in range(50)),
)

Run = Callable[..., Claim]


@pytest.fixture
def site(page_site: Site) -> Site:
    return page_site


@pytest.fixture
def run(site: Site, tmp_path: Path) -> Iterator[Run]:
    """Makes running jobs. They are made in another folder, since the worker of the site would run
    them. It leaves them alone while the test holds their locks."""
    maker = JobMaker(tmp_path / "jobs")
    with ExitStack() as held_jobs:

        def start(name: str, seconds: float, *cores: float, memory: int = 300 * MIB) -> Claim:
            """A job that has run for so many seconds, written IMPORT, and used so many cores in
            parts of this time that are equally long."""
            held = held_jobs.enter_context(maker.running(name=name, max_memory=400 * MIB))
            begun = time.time() - seconds
            rewrite_claim(held.folder, started_at=utc(begun))
            held.read()
            write_output(held, *(piece for piece in IMPORT if piece[0] < seconds))
            write_usage(held, begun, seconds, *cores, memory=memory)
            return move(site, held)

        yield start


def move(site: Site, held: Claim) -> Claim:
    """Moves a running job into the folder of the site, which keeps its locks."""
    folder = Path(site.storage.root, "running", held.job.id)
    Path(held.folder).rename(folder)
    held.folder = str(folder)
    return held


def write_usage(
    held: Claim, begun: float, seconds: float, *cores: float, memory: int, attempts: int = 1
) -> None:
    """Samples every 5 s, from 0 s on."""
    samples = b""
    count = int(seconds / 5)
    for attempt in range(attempts):
        used = 0.0
        for n in range(count + 1):
            used += 5 * cores[min(len(cores) - 1, n * len(cores) // (count + 1))] * (n > 0)
            at = begun + attempt * seconds + 5 * n
            samples += USAGE_RECORD.pack(at, used, memory * n // count)
    Path(held.folder, "usage").write_bytes(samples)


@pytest.fixture
def ended(site: Site, tmp_path: Path) -> str:
    """The ID of a job that was busy for 100 s, hung for 200 s, and then used two cores."""
    maker = JobMaker(tmp_path / "jobs")
    held = maker.running(name="import rows", max_memory=400 * MIB)
    begun = moment_of_start(held.job).wall
    write_usage(held, begun, 400, 1.0, 0.0, 0.0, 2.0, memory=300 * MIB)
    folder = maker.log(end_with_output(held, 400, *IMPORT).id).parent
    day = Path(site.storage.root, folder.parent.relative_to(tmp_path / "jobs"))
    day.mkdir(parents=True, exist_ok=True)
    folder.rename(day / folder.name)
    return folder.name


def usage_of(page: Page) -> Locator:
    return page.get_by_role("group", name="Resource usage")


def words(page: Page) -> list[str]:
    """What is beside both lines."""
    return usage_of(page).locator(".usage-words").all_inner_texts()


def move_to(page: Page, share: float) -> None:
    """Moves the pointer to a place on the line of the processor."""
    box = usage_of(page).get_by_role("img").first.bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + share * box["width"], box["y"] + box["height"] / 2)


def test_the_lines_show_when_a_job_was_busy_and_lead_to_the_log(
    site: Site, page: Page, ended: str
) -> None:
    visit(page, f"{site.url}/?job={ended}")
    usage = usage_of(page)
    lines = usage.get_by_role("img")
    expect(lines).to_have_count(2)
    expect(lines.first).to_have_attribute("aria-label", "Processor: 0.75 cores, average, peak 2.0")
    expect(lines.last).to_have_attribute("aria-label", "Memory: 300.0 MiB, peak, limit 400.0 MiB")
    shaded = lines.first.locator("rect")
    expect(shaded).to_have_count(1)
    assert 245 < float(shaded.get_attribute("x") or 0) < 255  # of 1,000: 100 s of 400
    assert 490 < float(shaded.get_attribute("width") or 0) < 510
    expect(usage.locator(".usage-limit:not(.none)")).to_have_attribute("y1", "0")
    check_with_axe(page)

    move_to(page, 0.5)
    expect(usage.locator(".usage-at:not(.none)")).to_have_count(2)
    expect(usage.locator("b").first).to_have_text("0 cores")
    page.mouse.down()
    page.mouse.up()
    expect(log_of(page).locator(".line.marked")).to_have_text("chunk 0")
    move_to(page, -0.2)
    expect(usage.locator(".usage-at:not(.none)")).to_have_count(0)

    slider = usage.get_by_role("slider", name="Time")
    slider.press("Home")
    slider.press("ArrowRight")
    expect(slider).to_have_attribute("aria-valuetext", re.compile(r"^[\d:]+: 1 core, 3.8 MiB$"))
    slider.press("Enter")
    expect(log_of(page).locator(".line.marked")).to_have_text("row 3")

    page.set_viewport_size({"width": 390, "height": 800})
    boxes = [line.bounding_box() for line in lines.all()]
    assert all(box and box["width"] > 150 and box["x"] + box["width"] <= 390 for box in boxes)
    assert len({box["y"] for box in boxes if box}) == 1

    plain = site.submit("true", "without samples")
    site.wait(plain, "succeeded")
    visit(page, f"{site.url}/?job={plain.id}")
    expect(state(page)).to_have_text("succeeded, exit 0")
    expect(usage).to_be_hidden()


def test_a_silent_job_is_busy_or_idle(site: Site, page: Page, run: Run) -> None:
    hung = run("hung import", 280, 1.0, 0.0)
    busy = run("busy import", 280, 0.97)
    visit(page, f"{site.url}/?job={busy.job.id}")
    expect(state(page)).to_have_text(re.compile(r"^no output for [34] min, busy: 0.97 cores$"))
    row(page, "hung import").click()
    expect(state(page)).to_have_text(re.compile(r"^no output for [34] min, idle$"))
    expect(usage_of(page).locator("g").first.locator("rect")).to_have_count(1)
    assert words(page) == [
        "CPU 0 cores\npeak 1.0",
        "Memory 300.0 MiB\npeak 300.0 MiB, limit 400.0 MiB",
    ]
    # New samples are added, even if the log does not change.
    with Path(hung.folder, "usage").open("ab") as file:
        file.write(USAGE_RECORD.pack(time.time() + 5, 150.0 + 25, 320 * MIB))
    shift_clock(page, 5_000)
    expect(usage_of(page).locator("b").last).to_have_text("320.0 MiB")


def test_the_tooltip_of_a_running_job_has_its_current_usage(
    site: Site, page: Page, run: Run
) -> None:
    job_id = run("tooltip import", 60, 1.5, memory=64 * MIB).job.id
    visit(page, site.url)
    item = page.locator(".home-item.running", has_text="tooltip import")
    expect(item).to_be_visible()
    assert site.asked(f"/jobs/{job_id}/usage") == 0
    item.hover()
    expect(item).to_have_attribute("title", "CPU 1.5 cores · 64.0 MiB")
    row(page, "tooltip import").hover()
    expect(row(page, "tooltip import")).to_have_attribute(
        "title", re.compile(r"running · [\d a-z]+ · CPU 1.5 cores · 64.0 MiB · ")
    )


def test_the_usage_of_a_job_does_not_send_its_row_again() -> None:
    usage = {"at": "2026-11-29T03:00:00.000Z", "cpu": 0.97, "memory_bytes": MIB}
    job = {"id": "1", "command": "c", "status": "running", "usage": usage}
    for shown in (rows.job_row(job), rows.job_details(job)):
        assert "usage" not in shown


def test_a_job_that_is_edited_keeps_the_options_that_the_form_does_not_show() -> None:
    limits = {"max_memory": 2 << 30, "nice": 5, "log_max_bytes": 1 << 20}
    kept = {"keep_runs": 3, "keep_days": 90, "keep_files": True}
    job = {"command": "c", "timeout": 5, "warn_after": None} | limits | kept
    assert forms.kept_options(job) == limits | kept
