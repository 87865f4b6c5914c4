"""How fast Tailboard is, as ratios to what is bare, taken in one run on one machine.

    python tests/bench.py [--jobs 300] [--gigabytes 2] [--followers 50] [--seconds 20]
    python tests/bench.py --page        the page alone, in Chromium
    python tests/bench.py --redis [--jobs 300] [--followers 50]     (beside RQ: pip install rq)
    python tests/bench.py --only two-slots,tail-requests            some figures, of any kind

Absolute times are of this machine and this hour; quote the ratios. They differ from one file system
to another: the measured folders are in `tests/`, or in the folder of --folder. A figure that cannot
be measured prints a line that begins with FAILED; the others still run, and the exit code is 1.
bench_against.py compares two commits.
"""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

import bench_attacked  # noqa: E402
import bench_jobs  # noqa: E402
import bench_logs  # noqa: E402
import bench_notify  # noqa: E402
import bench_page  # noqa: E402
import bench_redis  # noqa: E402
from figures import Figure, take_figures  # noqa: E402


def folder_figures(asked: argparse.Namespace) -> list[Figure]:
    """The figures of one machine with a jobs folder."""
    large = asked.gigabytes << 30

    def sampling(jobs: int) -> Callable[[Path], None]:
        return lambda folder: bench_jobs.sampling(folder, jobs, asked.seconds)

    figures = [
        Figure("one-slot", lambda folder: bench_jobs.throughput(folder, 1, asked.jobs)),
        Figure("two-slots", lambda folder: bench_jobs.throughput(folder, 2, asked.jobs)),
        Figure("start", lambda folder: bench_jobs.start_latency(folder, 100)),
        Figure("idle", lambda folder: bench_jobs.idle(folder, asked.seconds)),
        *(Figure(f"sampling-{jobs}", sampling(jobs)) for jobs in (1, 50, 200)),
        Figure("history", bench_jobs.history),
        Figure("late-and-silent", lambda folder: bench_notify.watching(folder, 1_000, 600)),
        Figure("estimates", lambda folder: bench_notify.estimating(folder, 100, 30)),
        Figure("tail-reads", lambda folder: bench_logs.tail_reads(folder, large)),
        Figure("one-follower", lambda folder: bench_logs.following(folder, 1)),
        Figure("followers", lambda folder: bench_logs.following(folder, asked.followers)),
    ]
    for kind in bench_attacked.ATTACKS:
        name = "attack-" + kind.replace(",", "").replace(" ", "-")
        attacked = lambda folder, kind=kind: bench_attacked.attacked(folder, kind)  # noqa: E731
        figures.append(Figure(name, attacked))
    return [
        *figures,
        Figure("polls", bench_logs.polls),
        Figure("tail-requests", lambda folder: bench_logs.tail_requests(folder, large)),
        Figure("search", lambda folder: bench_logs.search(folder, large)),
        Figure("markers", lambda folder: bench_logs.markers(folder, large)),
        Figure("secrets", lambda folder: bench_logs.secrets(folder, large)),
    ]


def page_figures() -> list[Figure]:
    """The figures of the page, in Chromium."""

    def flood(what: str, command: str) -> Callable[[Path], None]:
        return lambda folder: bench_page.longest_frame(folder, what, command)

    return [
        Figure("page-run", bench_page.run_to_first_line),
        Figure("page-cold-link", bench_page.cold_link),
        Figure("page-line", bench_page.line_to_pane),
        Figure("page-flood", flood("100,000 lines at once", "seq 100000")),
        Figure("page-sections", flood("75 sections of 1,000 lines", bench_page.SECTIONS)),
        Figure("page-long-lines", flood("2,000 lines of 20 kB", bench_page.LONG_LINES)),
        Figure("page-long-log", lambda folder: bench_page.long_log(folder, is_paused=False)),
        Figure("page-paused", lambda folder: bench_page.long_log(folder, is_paused=True)),
        Figure("page-clicks", bench_page.click_to_lines),
        Figure("page-idle", bench_page.idle_requests),
    ]


def redis_figures(asked: argparse.Namespace) -> list[Figure]:
    """The figures of several machines with a Redis server."""
    return [
        Figure("redis-jobs", lambda folder: bench_redis.throughput(folder, asked.jobs)),
        Figure("redis-memory", lambda folder: bench_redis.memory(folder, 1_000)),
        Figure("redis-masking", bench_redis.masking),
        Figure("redis-recovery", bench_redis.recovery),
        Figure("redis-one-follower", lambda folder: bench_redis.following(folder, 1)),
        Figure("redis-followers", lambda folder: bench_redis.following(folder, asked.followers)),
        Figure("redis-list", lambda folder: bench_redis.page(folder, 100_000)),
    ]


def choose_figures(parser: argparse.ArgumentParser, asked: argparse.Namespace) -> list[Figure]:
    """The named figures, or else all figures of the requested kind."""
    kinds = {
        "folder": folder_figures(asked),
        "page": page_figures(),
        "redis": redis_figures(asked),
    }
    if asked.only is None:
        return kinds["page" if asked.page else "redis" if asked.redis else "folder"]
    known = {figure.name: figure for figures in kinds.values() for figure in figures}
    names = asked.only.split(",")
    if unknown := [name for name in names if name not in known]:
        parser.error(f"unknown: {', '.join(unknown)}; the figures are {', '.join(known)}")
    return [known[name] for name in dict.fromkeys(names)]


def make_parser() -> argparse.ArgumentParser:
    layout = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=layout)
    parser.add_argument("--jobs", type=int, default=300)
    parser.add_argument("--gigabytes", type=int, default=2)
    parser.add_argument("--followers", type=int, default=50)
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--page", action="store_true", help="the page alone, in Chromium")
    parser.add_argument("--redis", action="store_true", help="several machines, and no other")
    parser.add_argument("--only", metavar="NAME,NAME", help="these figures; `?` lists their names")
    parser.add_argument("--folder", type=Path, default=ROOT / "tests", help="where to measure")
    return parser


def main() -> None:
    parser = make_parser()
    asked = parser.parse_args()
    figures = choose_figures(parser, asked)
    signal.signal(
        signal.SIGTERM, signal.default_int_handler
    )  # end the started programs, as Ctrl-C does
    with tempfile.TemporaryDirectory(dir=asked.folder) as name:
        print(f"{'':56}  {'ours':>10}  {'bare':>10}", flush=True)
        failed = take_figures(figures, Path(name))
    if failed:
        sys.exit(f"{len(failed)} of {len(figures)} figures failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
