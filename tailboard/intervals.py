"""The times of the worker and the relay, in seconds.

Tests change them, so import this module and not the names in it: `intervals.RETRY_DELAY`.
"""

from __future__ import annotations

POLL_INTERVAL = 0.25  # between checks of running jobs; of queues, if the system cannot notify
HEARTBEAT_INTERVAL = 5.0  # between heartbeats; with each, the worker adopts the jobs of dead ones
RETRY_DELAY = 1.0  # until a failed step is tried again
KILL_DELAY = 10.0  # from TERM to KILL
CLOSE_TIME = 2.0  # for processes that still write to the log of a job with secrets
SAMPLE_INTERVAL = 5.0  # between two samples of what jobs use, at least
COUNT_TIME = 30.0  # for counting the files of a job that has ended
FILES_INTERVAL = 2.0  # between measurements of a running job's files, at least
PRUNE_TIME = 0.02  # for deleting old jobs, at each heartbeat
FIRE_TIME = 0.1  # for starting saved commands, in one pass of the loop
NOTIFY_INTERVAL = 1.0  # between two looks at what is to be notified
SEND_TIME = 20.0  # for one try of a message, whatever the receiver does
SEND_PAUSE = 10.0  # between the first try and the second; the later pauses are longer
