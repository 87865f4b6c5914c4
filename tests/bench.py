"""How fast Tailboard is, as ratios to what is bare, taken in one run on one machine.

    python tests/bench.py [--jobs 300] [--gigabytes 2] [--followers 50] [--seconds 20]
    python tests/bench.py --page        the page alone, in Chromium
    python tests/bench.py --redis [--jobs 300] [--followers 50]     (beside RQ: pip install rq)

Absolute times are of this machine and this hour; quote the ratios. They differ from one file system
to another: TMPDIR says where to measure.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from bench_attacked import attacked  # noqa: E402
from bench_jobs import history, idle, start_latency, throughput  # noqa: E402
from bench_logs import following, polling, tails  # noqa: E402
from bench_page import bench_page  # noqa: E402
from bench_redis import several_machines  # noqa: E402


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=300)
    parser.add_argument("--gigabytes", type=int, default=2)
    parser.add_argument("--followers", type=int, default=50)
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--page", action="store_true", help="the page alone, in Chromium")
    parser.add_argument("--redis", action="store_true", help="several machines, and no other")
    asked = parser.parse_args()
    if asked.page:
        bench_page()
        return
    with tempfile.TemporaryDirectory(dir=ROOT / "tests") as name:
        folder = Path(name)
        print(f"{'':52} {'ours':>10} {'bare':>10}")
        if asked.redis:
            several_machines(folder / "redis", asked.jobs, asked.followers)
            return
        throughput(folder, asked.jobs)
        start_latency(folder / "start", 100)
        idle(folder / "idle", asked.seconds)
        history(folder / "history")
        tails(folder / "tails", asked.gigabytes << 30)
        following(folder / "following", asked.followers)
        attacked(folder / "attacked")
        polling(folder / "polling", asked.gigabytes << 30)


if __name__ == "__main__":
    main()
