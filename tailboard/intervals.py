"""Times of the worker, in seconds."""

from __future__ import annotations

POLL_INTERVAL = 0.25  # seconds between looks at running jobs; at queues, where nothing tells
HEARTBEAT_INTERVAL = 5.0  # seconds between recoveries, and full scans of the queues
RETRY_DELAY = 1.0  # seconds until what failed is tried again; between rounds of KILL, too
PRUNE_TIME = 0.02  # seconds of deleting old jobs at each beat
FIRE_TIME = 0.1  # seconds of firing schedules in one pass of the loop
