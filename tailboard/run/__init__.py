"""A job at work: the shim, its supervision, signals, the webhook. Only workers use it."""
