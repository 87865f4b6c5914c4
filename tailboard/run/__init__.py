"""Running a job: the shim, its supervision, signals, the webhook. Only workers import this."""
