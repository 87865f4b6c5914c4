"""What the log pane says about time and other runs: pauses, silence, the forecast, jobs with the
same end, and two logs side by side."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from itertools import islice, product
from string import ascii_lowercase

import pytest
from conftest import JobMaker, need_browser, wait_until
from page_site import Site, check_with_axe, log_of, second_page, served, visit
from past_runs import DEPLOY, Piece, end_with_output, rewrite_claim, write_output
from playwright.sync_api import Locator, Page, expect

from tailboard.status import Status
from tailboard.values import utc

ERROR = "ERROR: the disk <b> is full"


@pytest.fixture(scope="module")
def lone_site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A site without a worker, which would start the jobs of the tests."""
    need_browser()
    with served(tmp_path_factory.mktemp("lone"), worker=False, url=second_page()) as site:
        yield site


@pytest.fixture
def maker(lone_site: Site) -> JobMaker:
    return JobMaker(lone_site.root / "jobs")


def past_deploys(maker: JobMaker, name: str) -> list[str]:
    """The IDs of three successes, of which the last one is the fastest."""
    factors = (1.0, 0.9, 0.8)
    runs = [[(at * factor, line) for at, line in DEPLOY] for factor in factors]
    return [end_with_output(maker.running(name=name), run[-1][0] + 5, *run).id for run in runs]


def failed(maker: JobMaker, *lines: Piece, **fields: str) -> str:
    """The ID of a job that fails after these lines, of which the last one explains why."""
    ended, text = lines[-1]
    return end_with_output(maker.running(**fields), ended + 1, *lines, hint=text.split("\n")[-2]).id


def marked(page: Page) -> Locator:
    return log_of(page).locator(".line.marked")


# --- Pauses ---------------------------------------------------------------------------------------


def test_the_longest_pauses_are_listed_and_marked(
    lone_site: Site, page: Page, maker: JobMaker
) -> None:
    past_deploys(maker, "slow deploy")
    late = [(at + 60 * (at > 35), line) for at, line in DEPLOY]
    visit(page, f"{lone_site.url}/?job={failed(maker, *late, name='slow deploy')}")
    page.get_by_role("button", name="Pauses").click()
    items = page.get_by_role("region", name="The longest pauses").get_by_role("button")
    expect(items.first).to_have_text(
        re.compile(r"^2 min 5 s\s*usually 59 s\s*migrating orders\s*migrated$")
    )
    expect(items.first.locator(".much-longer")).to_be_visible()
    expect(items.nth(1).locator(".much-longer")).to_have_count(0)
    page.keyboard.press("Tab")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowUp")
    expect(items.first).to_be_focused()
    page.keyboard.press("Escape")
    expect(items.first).to_be_hidden()
    page.set_viewport_size({"width": 390, "height": 800})
    page.get_by_role("button", name="Pauses").click()
    items.first.click()
    expect(items.first).to_be_hidden()
    expect(marked(page)).to_have_text(["migrating orders", "migrated"])
    ticks = page.locator(".pause-ticks u")
    expect(ticks).to_have_count(5)  # those of lines that are side by side are one
    ticks.nth(1).click()
    expect(marked(page).first).to_have_text("fetching 12 files")


# --- A running job --------------------------------------------------------------------------------


@pytest.fixture
def hanging(maker: JobMaker) -> Iterator[tuple[str, str]]:
    """The IDs of a job that is silent for longer than ever, and of its slowest success."""
    slowest, *_ = past_deploys(maker, "hanging deploy")
    held = maker.running(name="hanging deploy")
    lines = [(at - 400, line) for at, line in DEPLOY[:4]]
    write_output(held, *lines)
    rewrite_claim(held.folder, started_at=utc(time.time() - 400))
    yield held.job.id, slowest
    maker.finish(held)


def test_a_running_job_is_compared_with_earlier_runs(
    lone_site: Site, page: Page, hanging: tuple[str, str]
) -> None:
    job_id, slowest = hanging
    visit(page, f"{lone_site.url}/?job={job_id}")
    expect(page.locator(".forecast")).to_have_text(
        re.compile(r"^\d\d %, .*\d min behind since “migrated”$")
    )
    expect(page.locator(".why-reason")).to_have_text(
        re.compile("; nothing for 5 min; the longest pause before was 65 s, after this line$")
    )
    page.locator(".forecast").get_by_role("link").click()
    expect(marked(page)).to_have_text("migrated")
    page.locator(".why-reason").get_by_role("link").click()
    expect(page).to_have_url(re.compile(f"job={slowest}&at=36$"))
    expect(marked(page)).to_have_text("migrating orders")
    expect(page.locator(".forecast")).to_be_hidden()


# --- Jobs with the same end -----------------------------------------------------------------------


def test_jobs_that_ended_in_the_same_way_can_be_run_again(
    lone_site: Site, page: Page, maker: JobMaker
) -> None:
    end = (3.0, f"{ERROR}\n")
    other = failed(maker, end, name="other <command>")
    first = failed(maker, end, name="unlucky")
    maker.ended(b"good\n", name="unlucky", rerun_of=first)
    last = failed(maker, end, name="unlucky")
    visit(page, f"{lone_site.url}/?job={last}")
    seen = page.locator(".seen")
    expect(seen).to_have_text(
        re.compile(
            r"^Also today at \S+ [AP]M in this command; it passed when run again; "
            r"elsewhere: once in other <command>\s+Run it again$"
        )
    )
    seen.get_by_role("button", name="Run it again").click()
    seen.get_by_role("button", name="Run again", exact=True).click()
    expect(page.locator(".toast")).to_have_text("Started 1 job.")
    queued, _ = lone_site.storage.list(status=Status.QUEUED)
    reruns = [job for job in queued if job.rerun_of == other]
    assert len(reruns) == 1
    expect(seen.get_by_role("button")).to_be_hidden()  # each job is run again only once
    seen.get_by_role("link").first.click()
    expect(page).to_have_url(re.compile(f"job={first}$"))
    expect(seen).to_contain_text("Also today at")  # the later one


# --- Comparing ------------------------------------------------------------------------------------


def numbered_words() -> Iterator[str]:
    """Words without numbers, which do not count in a comparison."""
    return map("".join, product(ascii_lowercase, repeat=3))


def test_a_failure_is_shown_beside_the_last_success(
    lone_site: Site, page: Page, maker: JobMaker
) -> None:
    good = maker.ended(
        "".join(f"step {w}\n" for w in islice(numbered_words(), 40)).encode(), name="beside"
    )
    lines = [*(f"step {w}" for w in islice(numbered_words(), 30)), ERROR + " x" * 200]
    bad = failed(maker, (1.0, "".join(f"{line}\n" for line in lines)), name="beside")
    page.set_viewport_size({"width": 1500, "height": 800})
    visit(page, f"{lone_site.url}/?job={bad}")
    page.get_by_role("button", name="Compare", exact=True).click()
    expect(page).to_have_url(re.compile(f"job={bad}&compare={good}$"))
    compare = page.get_by_role("region", name="Comparison with another run")
    expect(compare.locator(".compare-head")).to_have_text(re.compile("40 lines.*31 lines", re.S))
    expect(compare.locator(".fold")).to_have_text("… 24 equal lines")
    left, right = compare.locator(".differs > .left"), compare.locator(".differs > .right")
    expect(right).to_contain_text(ERROR)
    assert left.bounding_box()["y"] == right.bounding_box()["y"]
    check_with_axe(page)
    page.set_viewport_size({"width": 390, "height": 800})
    below, above = right.bounding_box(), left.bounding_box()
    assert below["y"] >= above["y"] + above["height"] and below["x"] == above["x"]
    text = right.locator(".compare-text > span")
    page.keyboard.press("w")
    expect(compare).not_to_have_class(re.compile("wrapped"))
    begin = text.bounding_box()["x"]
    compare.locator(".compare-body").press("ArrowRight")
    wait_until(lambda: text.bounding_box()["x"] < begin)
    page.keyboard.press("w")
    right.get_by_role("link").click()
    expect(page).to_have_url(re.compile(f"job={bad}&at=270$"))
    expect(compare).to_be_hidden()
    expect(marked(page)).to_have_text(re.compile("^ERROR"))
    page.go_back()
    expect(right).to_contain_text(ERROR)
    page.keyboard.press("Escape")
    expect(compare).to_be_hidden()
    expect(page).to_have_url(re.compile(f"job={bad}"))


def test_a_long_comparison_is_loaded_as_one_scrolls(
    lone_site: Site, page: Page, maker: JobMaker
) -> None:
    words = list(islice(numbered_words(), 1500))
    old, new = (
        (f"same {w}\n{side} {w}\n" for w in words for side in ["old"]),
        (f"same {w}\nnew {w}\n" for w in words),
    )
    one = maker.ended("".join(old).encode(), name="long")
    other = maker.ended("".join(new).encode(), name="long")
    visit(page, f"{lone_site.url}/?job={other}&compare={one}")
    hunks = page.locator(".compare-body .hunk")
    expect(hunks.nth(5)).to_be_attached()
    assert hunks.count() < 3000

    def is_whole() -> bool:
        page.locator(".compare-body").evaluate("node => node.scrollTo(0, node.scrollHeight)")
        return hunks.count() == 3000

    wait_until(is_whole)
    expect(hunks.last).to_have_text(re.compile(f"old {words[-1]}.*new {words[-1]}", re.S))


def test_a_comparison_says_that_there_is_nothing_to_compare(
    lone_site: Site, page: Page, maker: JobMaker
) -> None:
    first = maker.ended(b"took 3 s\n", name="compared")
    second = maker.ended(b"took 4 s\n", name="compared")
    visit(page, f"{lone_site.url}/?job={first}")
    page.get_by_role("button", name="More actions").click()
    page.get_by_role("button", name="Compare with the last success").click()
    said = page.locator(".compare-said")
    expect(said).to_have_text("No earlier run of this command has succeeded in the last 14 days.")
    page.get_by_role("button", name="Close the comparison").click()
    page.goto(f"{lone_site.url}/?job={second}&compare=success")
    expect(said).to_have_text(re.compile("^Both logs say the same"))
    expect(page.locator(".compare-text")).to_have_text(["took 3 s", "took 4 s"])
