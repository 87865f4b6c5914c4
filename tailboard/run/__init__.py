"""What a worker uses to run jobs."""
