"""What Tailboard derives from the logs of a job and of its earlier runs."""
